"""Which column is the user, the item, the time: found by name, or named by the caller."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from palate.errors import ConfigError, DataError, nearest

#: Names of each role as they are met in the wild, best first: a name of an earlier group wins over one of a later group.
#: Case, spaces, hyphens, underscores and RecBole types (``:token``) do not count.
NAMES: Mapping[str, tuple[str, ...]] = {
    "user": (
        "user",
        "userid uid",
        "visitorid visitor reviewerid customerid customer memberid profileid accountid clientid personid playerid authorid",
    ),
    "item": (
        "item",
        "itemid iid parentasin",
        "movieid bookid productid asin articleid artistid trackid songid businessid videoid newsid gameid appid recipeid "
        "jokeid hotelid sku isbn poiid locationid contentid listingid adid product movie book article artist track business "
        "video",
    ),
    "time": (
        "time timestamp ts",
        "unixreviewtime sorttimestamp eventtime createdat datetime unixtime timems timestampms",
        "date tdat reviewtime day",
    ),
    "value": (
        "value",
        "rating ratings",
        "overall stars score weight count plays playcount listencount label preference strength",
    ),
    "action": ("action", "event eventtype actiontype behavior behaviour behaviortype interactiontype", "feedback"),
    "session": ("session", "sessionid sid"),
}

#: Roles that a table of events can't lack.
REQUIRED = ("user", "item")


def plain(name: str) -> str:
    """Return a column name without case, punctuation and RecBole type."""
    return re.sub(r"[^a-z0-9]", "", name.split(":")[0].lower())


def resolve(found: Sequence[str], given: Mapping[str, str] | None, where: object) -> dict[str, str]:
    """Return the column of each role.

    Parameters
    ----------
    found
        Column names of the table.
    given
        Roles named by the caller; an empty name leaves a role out.
    where
        The file, for messages.

    Raises
    ------
    ConfigError
        If a role is unknown.
    DataError
        If a column is absent, double, or can't be told.
    """
    given = dict(given or {})
    check_double(found, where)
    roles: dict[str, str] = {}
    for role, column in given.items():
        if role not in NAMES:
            raise ConfigError("unknown role in columns.", where=where, value=role, remedy=nearest(role, NAMES))
        if column and column not in found:
            advice = f"{nearest(column, found)} the columns are: {', '.join(found)}" if found else None
            raise DataError(f"there is no column for the {role}.", where=where, value=column, remedy=advice)
        if column:
            roles[role] = column
    taken = set(roles.values())
    for role in NAMES:
        if role in given:
            continue
        hit = _detect(role, [c for c in found if c not in taken], where)
        if hit is not None:
            roles[role] = hit
            taken.add(hit)
    if "user" not in roles and "session" in roles and "user" not in given:
        roles["user"] = roles["session"]
    for role in REQUIRED:
        if role not in roles:
            raise DataError(
                f"no column looks like the {role}.",
                where=where,
                value=list(found),
                remedy=f"name it: columns={{{role!r}: {found[0] if found else 'NAME'!r}}} (--column {role}=NAME)",
            )
    return roles


def check_double(found: Sequence[str], where: object) -> None:
    """Raise if two columns bear one name."""
    double = sorted({c for c in found if list(found).count(c) > 1})
    if double:
        raise DataError("two columns bear one name.", where=where, value=double, remedy="rename or remove one of them")


def _detect(role: str, free: Sequence[str], where: object) -> str | None:
    for group in NAMES[role]:
        words = group.split()
        hits = [c for c in free if plain(c) in words]
        if len(hits) > 1:
            choice = ", ".join(hits)
            raise DataError(
                f"several columns look like the {role}: {choice}.",
                where=where,
                value=list(free),
                remedy=f"name one: columns={{{role!r}: {hits[0]!r}}} (--column {role}={hits[0]})",
            )
        if hits:
            return hits[0]
    return None
