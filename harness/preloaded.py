"""Imports that every job needs, made once by the process that the jobs are forked from."""

import tasks.retrieval.model
import tasks.vqa.model  # noqa: F401
