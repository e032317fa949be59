"""A newcomer's session in an empty folder: commands of the README and frequent slips (`tests.newcomer.session`)."""
