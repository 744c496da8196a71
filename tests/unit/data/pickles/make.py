"""Makes the pickles of this folder: verification sets whose images are numpy arrays, in every protocol.

Needs numpy; the files are stored, so that the tests do not. Image i of 6 is the bytes i, i + 1, ..., i + 11, with the
shapes (12,) and (12, 1) in turn, as cv2.imencode of new and old versions gives them.
"""
import os
import pickle

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
bins = [np.arange(i, i + 12, dtype=np.uint8).reshape((12,) if i % 2 == 0 else (12, 1)) for i in range(6)]
same = {
    0: [True, False, True],
    1: [1, 0, 1],
    2: [np.bool_(True), np.bool_(False), np.bool_(True)],
    3: np.array([True, False, True]),
    4: [True, False, True],
    5: np.array([1, 0, 1], dtype=np.int64),
}
for protocol in range(6):
    images = bins
    if protocol == 4:  # one array of objects
        images = np.empty(6, dtype=object)
        images[:] = [b.tobytes() for b in bins]
    data = pickle.dumps((images, same[protocol]), protocol=protocol)
    if protocol <= 2:  # the module's name before numpy 2, as in all files that are around
        data = data.replace(b"numpy._core.", b"numpy.core.")
    with open(os.path.join(here, f"numpy_protocol{protocol}.bin"), "wb") as f:
        f.write(data)
