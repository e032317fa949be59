"""Rows that COCO's files of captions, questions and instances share."""

from __future__ import annotations

from typing import Any

LICENSE = {"id": 1, "url": "", "name": "drawn by a program"}


def info(year: int) -> dict[str, Any]:
    """About the data set."""
    return {
        "description": "procedural toy data",
        "url": "",
        "version": "1.0",
        "year": year,
        "contributor": "",
        "date_created": f"{year}-01-01",
    }


def image_row(image_id: int, file_name: str, width: int, height: int, *, year: int) -> dict[str, Any]:
    """An entry of `images`; `width` and `height` in pixels."""
    return {
        "license": LICENSE["id"],
        "file_name": file_name,
        "coco_url": "",
        "height": height,
        "width": width,
        "date_captured": f"{year}-01-01 00:00:00",
        "flickr_url": "",
        "id": image_id,
    }
