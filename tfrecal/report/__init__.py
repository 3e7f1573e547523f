"""How does a person read what a run or a comparison found?"""
from tfrecal.report.page import write_report
from tfrecal.report.tensorboard import write_tensorboard

__all__ = ["write_report", "write_tensorboard"]
