"""``python -m hocket``: the command line, for torchrun (``torchrun ... -m hocket train recipe.yaml``)."""

from hocket.cli.main import app

if __name__ == "__main__":
    app(prog_name="hocket")
