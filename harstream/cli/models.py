"""`harstream models`."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models that come with harstream."""
    from harstream import bundle

    for path in bundle.shipped():
        model = bundle.load(path)
        spec = model.spec
        click.echo(
            f"{model.id}  {spec.sample_rate_hz:g} Hz, {spec.window_samples} samples every {spec.stride_samples}, "
            f"{spec.n_channels} channels\n  labels: {', '.join(model.labels)}\n  {model.path}"
        )
