"""The kinds of transformers that `TextEncoder` can run, by `model_type`."""

from tfrecal.text.architectures.albert import Albert
from tfrecal.text.architectures.base import Architecture
from tfrecal.text.architectures.bert import Bert, Electra
from tfrecal.text.architectures.distilbert import DistilBert
from tfrecal.text.architectures.gpt2 import GPT2
from tfrecal.text.architectures.mpnet import MPNet
from tfrecal.text.architectures.roberta import Roberta
from tfrecal.text.architectures.xlnet import XLNet

ARCHITECTURES: dict[str, type[Architecture]] = {
    each.kind: each for each in (
        Bert, Electra, DistilBert, MPNet, Roberta, Albert, GPT2, XLNet)
}
