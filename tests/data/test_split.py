"""Labelled images in memory."""

import numpy as np

from cifar_export.data import Split


def test_thinning_keeps_so_many_images_spread_over_all_with_their_labels():
    images = np.zeros((100, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(100)
    split = Split(images, np.arange(100) // 10)
    few = split.thinned(10)
    assert few.images[:, 0, 0, 0].tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert few.labels.tolist() == list(range(10))
    assert split.thinned(100) is split
    assert split.thinned(1000) is split
