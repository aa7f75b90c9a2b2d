# Where data come from: archives of the table, files and objects of the user's, the published numbers.
def archive_name(file):
    """Return the row of the datasets table that has this archive, or in a rehearsal a made one."""
    for name, source in data_sources().items():
        if source.file == file:
            return name
    for name in PLAN.corruptions:
        if corrupted_source(name).file == file:
            return name
    known = [source.file for source in data_sources().values() if source.file]
    refuse(f"resources/datasets.tsv has no archive '{file}'", file, known)


def row_of(wildcards):
    """Return what a data set's row of the table says of its content."""
    return row_named(wildcards.name)


@functools.cache
def row_named(name):
    source = plainly(data_source, name, refusal=SystemExit)
    return compact([identity(row) for row in dict.fromkeys([source, *files_of(source)])])


def row_of_file(wildcards):
    name = archive_name(wildcards.file)
    return compact(identity(data_sources().get(name) or corrupted_source(name)))


def data_of(wildcards):
    """Return what the table says of the data set of a cell."""
    return row_named(planned(wildcards).cell.data.source)


def archive_of(wildcards):
    source = plainly(data_source, wildcards.name, refusal=SystemExit)
    if source.own:  # whose name tells the content: a new time changes nothing
        return [ancient(file) for file in (source.file, *source.parts) if file]
    return [paths.download(file.file) for file in files_of(source)]


def own_of(wildcards):
    """Return, as JSON, what is known of data that the config describes; "" for a row of the table."""
    source = plainly(data_source, wildcards.name, refusal=SystemExit)
    left = {"file", "parts", "mirrors", "repacked"}
    left |= {key for key in ("stands_for", "text") if not getattr(source, key)}
    kept = {key: value for key, value in dataclasses.asdict(source).items() if key not in left}
    kept |= {"file": "", "parts": [], "mirrors": []}
    return compact(kept) if source.own or source.text else ""


def archive_of_results():
    return paths.download(data_sources()["taxonomy_results"].file)


def published_numbers(wildcards):
    """Return the table of the authors' numbers; end with one line if it is missing."""
    table = paths.published()
    if not os.path.isfile(table):
        fix = "restore the file from the repository"
        raise SystemExit(str(UserError("no such file", where=table, fix=fix)))
    return table
