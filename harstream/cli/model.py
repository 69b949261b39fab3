"""`harstream models`."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models that come with harstream."""
    from harstream import bundle

    for path in bundle.shipped():
        found = bundle.load(path)
        spec = found.spec
        click.echo(
            f"{found.id}  {spec.sample_rate_hz:g} Hz, {spec.window_samples} samples every {spec.stride_samples}, "
            f"{spec.n_channels} channels\n  labels: {', '.join(found.labels)}\n  {found.path}"
        )
