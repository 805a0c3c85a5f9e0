"""Notebook 09 in a real browser: time, bytes and error follow scheme, packing, degree and scale."""

import re


def bytes_and_error(readout):
    """Bytes a number and the largest error, as the sentence says."""
    found = re.search(r"([\d.]+) bytes a number .* largest error ([\d.e+-]+),", readout)
    return float(found[1]), float(found[2])


def test_packing_saves_bytes_and_a_careless_scale_costs_digits(view):
    assert "Paillier, 2048 bits, 63 numbers of 32 bits" in view.readout
    packed = bytes_and_error(view.readout)
    assert packed[1] < 1e-5

    packing = view.control("packing").get_by_role("checkbox")
    readout = view.change(packing.click)
    assert "one number in a ciphertext" in readout
    assert "scaled up from" in readout
    assert bytes_and_error(readout)[0] > 50 * packed[0]
    view.change(packing.click)

    assert "512 bits, a toy" in view.change(lambda: view.slider("key_bits").press("Home"))
    assert view.slider("key_bits").value == "512 (toy)"
    assert "numbers of 64 bits" in view.change(lambda: view.slider("scale_bits").press("End"))

    ckks = view.control("scheme").get_by_role("button", name="CKKS", exact=True)
    readout = view.change(ckks.click)
    assert "CKKS, degree 4096" in readout
    assert bytes_and_error(readout)[1] < 1e-9
    assert "degree 16384" in view.change(lambda: view.slider("poly_degree").press("End"))
    readout = view.change(lambda: view.slider("scale_bits").press("Home"))
    assert "scale 2^4:" in readout
    assert bytes_and_error(readout)[1] > 10
