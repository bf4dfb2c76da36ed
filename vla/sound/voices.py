"""Voices of espeak-ng that speak instructions. Free of heavy imports.

A voice is an accent of the language, and behind a ``+`` the person. Of a person that it does not know, espeak-ng takes
another and says nothing, so names are looked up here; and for those with ``breath`` (f2, f3, f5, whisper and others) it
reads memory that nobody has written, so that they never sound alike twice: they are left out.
"""

from collections.abc import Mapping

VOICES: Mapping[str, str] = {
    "en-us": "General American, a man",
    "en-us+linda": "General American, a woman",
    "en-us+m7": "General American, another man",
    "en-us+Andrea": "General American, another woman, quick",
    "en": "British, a man",
    "en+f4": "British, a woman",
    "en+m4": "British, another man",
    "en-gb-x-rp": "Received Pronunciation, a man",
    "en-gb-x-rp+steph": "Received Pronunciation, a woman",
    "en-gb-scotland": "Scottish, a man",
    "en-gb-scotland+belinda": "Scottish, a woman",
    "en-gb-x-gbclan+m3": "Lancashire, a man",
    "en-gb-x-gbcwmd+Annie": "West Midlands, a woman",
    "en-029+m1": "Caribbean, a man",
    "en-us-nyc+f1": "New York, a woman; held out",
}
"""By the name that espeak-ng knows them by."""
HELD_OUT = "en-us-nyc+f1"
"""Speaks in no bank, neither her accent nor her person: whoever understands her has not learned voices by heart."""
TRAINING = tuple(name for name in VOICES if name != HELD_OUT)
