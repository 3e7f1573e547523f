"""Who answers questions: a log, a function, or people with files?"""
from __future__ import annotations

from tfrecal.oracles.base import Answers, Oracle, Questions
from tfrecal.oracles.callable import CallableOracle
from tfrecal.oracles.file_queue import FileQueueOracle
from tfrecal.oracles.question_files import read_answers, write_questions
from tfrecal.oracles.replay import ReplayOracle

__all__ = ["Answers", "CallableOracle", "FileQueueOracle", "Oracle",
           "Questions", "ReplayOracle", "read_answers", "write_questions"]
