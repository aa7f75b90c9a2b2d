"""Put all figures, their captions and the claims on one page."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import page, paths
    from lossatlas.spec.figures import ABOUT_REHEARSAL

    figures = [
        page.Shown(name, png, caption)
        for (name, caption), png in zip(s.params.captions.items(), s.input.figures, strict=True)
    ]
    rehearsal = {"rehearsal": ABOUT_REHEARSAL} if paths.rehearsing() else {}
    about = {**rehearsal, "config": s.params.config, "experiments": ", ".join(s.params.experiments)}
    if s.params.adopted:
        about["experiments on networks trained elsewhere"] = ", ".join(s.params.adopted)
    if s.params.missing:
        about["missing checkpoints"] = "; ".join(s.params.missing)
    if s.params.accepted:
        about["results accepted under newer code"] = "; ".join(s.params.accepted)
    page.write(s.output[0], figures, s.input.claims, about)
