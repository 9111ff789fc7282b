"""Names of people, places and organisations from lists that PyPI packages ship, parted into two that share no name.

People: `names` (US Census 1990). Places: `geotext` (GeoNames, CC BY 3.0). Companies: `pytickersymbols` (MIT).
"""

from __future__ import annotations

import ast
import hashlib
import random
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from examples.labelled_texts import DataError
from examples.package_files import PackageFile, fetch

PEOPLE = PackageFile(
    "names==0.3.0", "names-0.3.0.tar.gz", "726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671", True
)
PLACES = PackageFile(
    "geotext==0.4.0",
    "geotext-0.4.0-py2.py3-none-any.whl",
    "afc17c170337195b0fc9990ff2dec822bb4eb548c0541f5b7c853ff06ae164dc",
)
COMPANIES = PackageFile(
    "pytickersymbols==1.17.10",
    "pytickersymbols-1.17.10-py3-none-any.whl",
    "126ba59039f62fbde99d02b49eb180f0eb7987120aa8daaa25fe4b1c1651eb57",
)
# Names that fewer people bear, or smaller towns, are too often something else.
MOST_SURNAMES, MOST_FIRST_NAMES, LEAST_POPULATION = 12_000, 1_500, 100_000
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class NameLists:
    """Names of one part."""

    first_names: tuple[str, ...]
    surnames: tuple[str, ...]
    cities: tuple[str, ...]
    countries: tuple[str, ...]
    companies: tuple[str, ...]

    def person(self, chance: random.Random) -> str:
        """A person as a text may name one: mostly by both names, sometimes by one of them."""
        first, last = chance.choice(self.first_names), chance.choice(self.surnames)
        forms = [f"{first} {last}"] * 12 + [
            first,
            first,
            last,
            last,
            f"{first[0]}. {last}",
            f"{first} {first[0]}. {last}",
        ]
        forms += [f"{first} {chance.choice(self.surnames)}-{last}", f"{first} {chance.choice(self.first_names)} {last}"]
        return chance.choice(forms)

    def place(self, chance: random.Random) -> str:
        """A city or a country."""
        if chance.random() < 0.35:
            return chance.choice(self.countries)
        # The largest come first and are written about most.
        return self.cities[int(len(self.cities) * chance.random() ** 2)]

    def organisation(self, chance: random.Random) -> str:
        """A company of the list, or one, a club or a public body that is put together from other names."""
        if chance.random() < 0.5:
            return chance.choice(self.companies)
        pattern = chance.choice(_ORGANISATIONS)
        return pattern.format(
            name=chance.choice(self.surnames),
            other=chance.choice(self.surnames),
            city=chance.choice(self.cities),
            country=chance.choice(self.countries),
            field=chance.choice(_FIELDS),
            form=chance.choice(_FORMS),
        )


_FIELDS = (
    "Energy", "Logistics", "Foods", "Health", "Education", "Finance", "Transport", "Media", "Motors", "Insurance",
    "Justice", "Agriculture", "Science", "Engineering", "Steel", "Electronics", "Airlines", "Shipping", "Chemicals",
    "Labour", "Trade",
)  # fmt: skip
_FORMS = ("Inc", "Ltd", "GmbH", "AG", "SA", "Corp", "plc", "LLC", "Group", "Holdings", "NV", "Co")
_ORGANISATIONS = (
    "{name} {field}", "{name} {field} {form}", "{name} {form}", "{name} & {other}", "{name} Brothers",
    "{name} Foundation", "University of {city}", "{city} University", "{name} Institute", "Bank of {country}",
    "{city} Savings Bank", "{city} United", "{city} City Council", "FC {city}", "Ministry of {field}",
    "{country} Ministry of {field}", "Department of {field}", "{field} Department", "{country} Red Cross",
    "{city} Philharmonic Orchestra", "{city} Times", "Association of {field} Workers", "{field} Commission",
    "{city} Museum of Art", "{country} Airlines", "{name} Hospital", "National {field} Agency",
    "International {field} Federation", "{city} Chamber of Commerce", "{country} Socialist Party",
    "Royal Society of {field}", "Council of {field}",
)  # fmt: skip


def read_name_lists(downloads: Path) -> tuple[NameLists, NameLists]:
    """Names to train on and names that are held out.

    Raises:
        DataError: a package could not be downloaded, or does not hold what it should.
    """
    try:
        first_names, surnames = _people(fetch(PEOPLE, downloads))
        cities, countries = _places(fetch(PLACES, downloads))
        companies = _companies(fetch(COMPANIES, downloads))
    except (OSError, KeyError, ValueError, SyntaxError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{downloads}: the lists of names cannot be read: {error}") from None

    def part(held_out: bool) -> NameLists:
        def keep(names: Iterable[str]) -> tuple[str, ...]:
            return tuple(name for name in names if is_held_out(name) == held_out)

        return NameLists(keep(first_names), keep(surnames), keep(cities), keep(countries), keep(companies))

    return part(False), part(True)


def is_held_out(name: str) -> bool:
    """Decided by the name alone, however it is written."""
    return hashlib.sha256(name.casefold().encode()).digest()[0] < 256 * HELD_OUT_SHARE


def _people(archive: Path) -> tuple[list[str], list[str]]:
    with tarfile.open(archive) as package:

        def read(member: str, most: int) -> list[str]:
            stream = package.extractfile(f"names-0.3.0/names/{member}")
            if stream is None:
                raise KeyError(member)
            lines = stream.read().decode("ascii").splitlines()
            return [line.split()[0].title() for line in lines[:most]]

        female, male = (read(f"dist.{kind}.first", MOST_FIRST_NAMES) for kind in ("female", "male"))
        return list(dict.fromkeys(female + male)), read("dist.all.last", MOST_SURNAMES)


def _places(wheel: Path) -> tuple[list[str], list[str]]:
    def rows(package: zipfile.ZipFile, member: str) -> list[list[str]]:
        lines = package.read(f"geotext/data/{member}").decode("utf-8").splitlines()
        return [line.split("\t") for line in lines if not line.startswith("#")]

    with zipfile.ZipFile(wheel) as package:
        towns = sorted(rows(package, "cities15000.txt"), key=lambda row: -int(row[14] or 0))
        cities = [row[1] for row in towns if int(row[14] or 0) >= LEAST_POPULATION]
        countries = [row[4] for row in rows(package, "countryInfo.txt") if int(row[7] or 0) >= LEAST_POPULATION]
    return list(dict.fromkeys(cities)), list(dict.fromkeys(countries))


def _companies(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as package:
        source = package.read("pytickersymbols/indices_data.py").decode("utf-8")
    # The module is data in Python's own form; it is read, not run.
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "INDICES":
            indices = ast.literal_eval(statement.value)
            names = (company["name"].partition(" (")[0] for index in indices.values() for company in index["companies"])
            return sorted(set(filter(_is_plain, names)))
    raise KeyError("INDICES")


def _is_plain(name: str) -> bool:
    return 2 < len(name) <= 40 and not any(mark in name for mark in "/,;")
