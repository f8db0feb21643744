"""What `check` says of the access lists of Windows, with lists as Windows returns them."""

from __future__ import annotations

import pytest

from metricshub_apikey.files import ownership
from metricshub_apikey.files.windows import Access
from metricshub_apikey.review import checks
from metricshub_apikey.review.checks import Finding, Severity, access_findings

NOTHING = Access((), (), ())
PATH = "/security/store.p12"
STRANGER = "S-1-5-21-8"


def found(of_file: Access = NOTHING, of_folder: Access = NOTHING) -> list[Finding]:
    """Return what is not in order, or worth knowing."""
    findings = list(access_findings(PATH, of_file, of_folder))
    assert len(findings) == 4
    return [one for one in findings if not one.sentence.startswith("Only SYSTEM")]


def test_a_private_keystore_is_in_order() -> None:
    """Where the lists name nobody else, each right is said to be that of the owner alone."""
    assert found() == []
    (*_, reading) = access_findings(PATH, NOTHING, NOTHING)
    assert reading.sentence == "Only SYSTEM, Administrators and the owner may read the file."
    assert reading.severity is Severity.OK


@pytest.mark.parametrize(
    ("of_file", "of_folder", "check", "severity", "what"),
    [
        (Access(("BU",), (), ()), NOTHING, "mode", Severity.CRITICAL, "read the file"),
        (Access((), ("BU",), ()), NOTHING, "mode", Severity.CRITICAL, "change the file"),
        (NOTHING, Access(("BU",), (), ()), "", Severity.OK, ""),
        (NOTHING, Access((), ("BU",), ()), "directory", Severity.CRITICAL, "replace the file"),
        (NOTHING, Access((), (), ("BU",)), "directory", Severity.WARNING, "make files beside it"),
    ],
)
def test_rights_of_all_users(
    of_file: Access, of_folder: Access, check: str, severity: Severity, what: str
) -> None:
    """What every user may do is named; to list the directory does no harm."""
    if not what:
        assert found(of_file, of_folder) == []
        return
    (one,) = found(of_file, of_folder)
    assert (one.check, one.severity) == (check, severity)
    assert one.sentence == f"By its access list, Users may {what}."


def test_the_way_out_can_be_pasted() -> None:
    """The hint takes the groups away by their identifiers, which have no language."""
    (one,) = found(Access(("WD", "AU"), (), ()))
    assert one.sentence == "By its access list, Everyone, Authenticated Users may read the file."
    assert one.hint == (
        f'Take that away: icacls "{PATH}" /inheritance:d /remove:g *S-1-1-0 *S-1-5-11'
    )


def test_accounts_that_were_chosen_are_named() -> None:
    """Rights of a service's account were given on purpose: they are told, and no fault."""
    (one,) = found(Access((STRANGER,), (), ()))
    assert one.severity is Severity.OK
    assert one.sentence == f"By its access list, {STRANGER} may read the file."


def test_lists_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not looked at is not called good."""

    def deny(path: str, **_: object) -> Access:
        raise PermissionError(13, "Access is denied", path)

    monkeypatch.setattr(ownership, "access_of_others", deny)
    (one,) = checks._check_access(PATH)
    assert (one.check, one.severity) == ("access", Severity.WARNING)
    assert one.sentence == "The access lists were not looked at: Access is denied."
