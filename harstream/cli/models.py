"""`harstream models`."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the models that come with harstream."""
    from harstream import bundle, shipped

    for path in shipped.folders():
        model = bundle.load(path)
        spec = model.spec
        lines = [
            f"{model.id}  {spec.sample_rate_hz:g} Hz, {spec.window_samples} samples every {spec.stride_samples}, "
            f"{spec.n_channels} channels",
            f"sensors: {', '.join(model.sensors)}; orientation: {model.orientation}",
            f"placement: {model.placement}" if model.placement else "",
            f"labels: {', '.join(model.labels)}",
            f"states between them: {', '.join(model.states)}" if model.states else "",
            str(model.path),
        ]
        click.echo("\n  ".join(filter(None, lines)))
