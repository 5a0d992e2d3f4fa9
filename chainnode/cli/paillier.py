"""`chainnode paillier key|encrypt|decrypt`: numbers for contracts that add ciphertexts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainnode.cli.output import Format, reporting, show
from chainnode.sdk.paillier import KEY_SIZE_BITS, PaillierPublicKey, PaillierSecretKey
from chainnode.types.errors import ClientFault, ConfigError

app = typer.Typer(help="Paillier: a key, encrypted numbers, and reading a sum.")

Secret = Annotated[Path, typer.Argument(help="The secret key's file.")]
Output = Annotated[Format, typer.Option("-o")]


@app.command()
@reporting
def key(
    secret: Secret,
    bits: Annotated[int, typer.Option(help="2048 or 3072.")] = KEY_SIZE_BITS,
    output: Output = Format.TABLE,
) -> None:
    """Print the public key of a secret key's file, which is made first if it is missing."""
    made = PaillierSecretKey.load(secret, bits)
    show({"public_key": f"0x{made.public.data.hex()}"}, output)


@app.command()
@reporting
def encrypt(
    public_key: Annotated[str, typer.Argument(help="In hexadecimal, as `key` prints it.")],
    value: Annotated[int, typer.Argument(help="A whole number.")],
    output: Output = Format.TABLE,
) -> None:
    """Print a fresh ciphertext of a number."""
    public = PaillierPublicKey(_bytes(public_key))
    show({"ciphertext": f"0x{public.encrypt(value).hex()}"}, output)


@app.command()
@reporting
def decrypt(
    secret: Secret,
    ciphertext: Annotated[str, typer.Argument(help="In hexadecimal.")],
    output: Output = Format.TABLE,
) -> None:
    """Print the number in a ciphertext."""
    if not secret.exists():
        raise ConfigError(
            "PAILLIER_SECRET_MISSING", str(secret), fix="name the file that `key` made"
        )
    value = PaillierSecretKey.load(secret).decrypt(_bytes(ciphertext))
    show({"value": value}, output)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise ClientFault(
            "ARGUMENT_INVALID", "not hexadecimal", fix="pass the digits as they were printed"
        ) from None
