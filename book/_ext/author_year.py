"""List references as the text cites them: by author and year, in that order, without labels."""

from collections import defaultdict
from string import ascii_lowercase

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting import toplevel
from pybtex.style.formatting.unsrt import Style, pages
from pybtex.style.template import field, first_of, join, names, optional, optional_field, sentence, tag, words
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def order(entry: Entry) -> tuple[str, ...]:
    """Surnames, year and title; braces in the file protect capitals and do not count."""
    surnames = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
    key = (" ".join(surnames), entry.fields["year"], entry.fields["title"])
    return tuple(part.replace("{", "").replace("}", "").lower() for part in key)


class AuthorYear(Style):
    """Surname first and the year behind the names; style.css hides the labels."""

    default_name_style = "lastfirst"

    def __init__(self, **options) -> None:
        super().__init__(**{"abbreviate_names": True, **options})
        self.sort = lambda entries: sorted(entries, key=order)

    def _entry(self, entry: Entry, where):
        people = entry.persons["author"]
        authors = names("author", sep=", ", sep2=" and ", last_sep=", and ")
        if str(people[-1]) == "others":
            known = ", ".join(self.format_name(p, True).format().render_as("text") for p in people[:-1])
            authors = f"{known}, et al."
        head = words[authors, join["(", field("year"), ")"]]
        return toplevel[
            sentence(capfirst=False)[head],
            self.format_title(entry, "title"),
            where,
            sentence[optional_field("note")],
            self.format_web_refs(entry),
        ]

    def get_article_template(self, entry: Entry):
        issue = join[field("volume"), optional["(", field("number"), ")"], optional[":", pages]]
        where = first_of[optional[issue], optional[words["pages", pages]]]
        return self._entry(entry, sentence[tag("em")[field("journal")], where])

    def get_inproceedings_template(self, entry: Entry):
        where = words["In", sentence[tag("em")[field("booktitle")], optional[words["pages", pages]]]]
        return self._entry(entry, where)

    def get_techreport_template(self, entry: Entry):
        return self._entry(entry, sentence["Technical report", field("institution")])


def tell_apart(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Two papers that the text would cite alike become 2022a and 2022b."""
    alike = defaultdict(list)
    for entry in env.get_domain("cite").bibdata.data.entries.values():
        entry.fields["year"] = entry.fields["year"].rstrip(ascii_lowercase)  # from an earlier build
        surnames = [str(person.last_names) for person in entry.persons["author"]]
        cited = tuple(surnames) if len(surnames) < 3 else (surnames[0], "et al.")
        alike[cited, entry.fields["year"]].append(entry)
    for entries in alike.values():
        if len(entries) > 1:
            for letter, entry in zip(ascii_lowercase, sorted(entries, key=order), strict=False):
                entry.fields["year"] += letter


def setup(app: Sphinx) -> dict:
    """Make the style known to sphinxcontrib-bibtex under the name `author_year`."""
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    app.connect("env-before-read-docs", tell_apart)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
