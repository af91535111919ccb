"""What was kept: the map of rows and scores, tied to the document's characters, and how it is shown."""

from judgeq.retention.attended import Attended
from judgeq.retention.map import RetentionMap

__all__ = ["Attended", "RetentionMap"]
