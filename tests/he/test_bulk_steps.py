"""Steps of a score query over all blocks at once against the same steps one by one."""

import numpy as np
import pytest

from chainnode import _native as native

LIMBS = 3
MEMBER = native.HeSecretKey.generate("S")
PUBLIC_KEY = MEMBER.public_key()


def random_slots(seed: int, bound: int) -> bytes:
    return np.random.default_rng(seed).integers(0, bound, 8192).astype("<u8").tobytes()


def encrypt(number: int) -> bytes:
    seed = number.to_bytes(32, "big")
    return native.he_encrypt("S", PUBLIC_KEY, random_slots(number, 65_537), seed, LIMBS)


def test_masking_in_one_pass_gives_the_bytes_of_both_steps() -> None:
    ciphertexts = [encrypt(90 + i) for i in range(4)]
    # The second and third share a mask, the last one's is that of the first.
    masks = [random_slots(seed, 2) for seed in (95, 96, 96, 95)]
    addends = [random_slots(97 + i, 65_537) for i in range(4)]
    expected = [
        native.he_add_plain("S", LIMBS, native.he_multiply_plain("S", LIMBS, item, mask), added)
        for item, mask, added in zip(ciphertexts, masks, addends, strict=True)
    ]
    for threads in (1, 2, 7):
        assert native.he_mask_add("S", LIMBS, ciphertexts, masks, addends, threads) == expected
    with pytest.raises(ValueError, match="3 masks and 4 addends given for 4 ciphertexts"):
        native.he_mask_add("S", LIMBS, ciphertexts, masks[1:], addends, 2)
    with pytest.raises(ValueError, match="threads must be 1 to 256, got 0"):
        native.he_mask_add("S", LIMBS, ciphertexts, masks, addends, 0)
    with pytest.raises(ValueError, match="ciphertext is 65536 bytes"):
        native.he_mask_add("S", LIMBS, [*ciphertexts[:3], masks[0]], masks, addends, 2)


def test_shares_of_several_ciphertexts_are_those_of_each() -> None:
    target = native.HeSecretKey.generate("S").public_key()
    ciphertexts = [encrypt(85 + i) for i in range(3)]
    seeds = [bytes([i]) * 32 for i in range(3)]
    expected = [
        MEMBER.key_switch_share(item, LIMBS, target, seed, 4)
        for item, seed in zip(ciphertexts, seeds, strict=True)
    ]
    for threads in (1, 2, 7):
        made = MEMBER.key_switch_shares(ciphertexts, LIMBS, target, seeds, 4, threads)
        assert made == expected
    with pytest.raises(ValueError, match="2 seeds given for 3 ciphertexts"):
        MEMBER.key_switch_shares(ciphertexts, LIMBS, target, seeds[1:], 4, 2)
