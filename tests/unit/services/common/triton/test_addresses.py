import pytest

from services.common.setting import SettingsError
from services.common.triton_addresses import look_up, parse_addresses


@pytest.mark.parametrize(
    ("text", "endpoints", "names"),
    [
        ("127.0.0.1:8001", ("127.0.0.1:8001",), ()),
        (" a:1 , [::1]:2,unix:/run/triton.sock", ("a:1", "[::1]:2", "unix:/run/triton.sock"), ()),
        ("dns:///triton.ai.svc:8001", (), (("triton.ai.svc", 8001),)),
        ("a:1,dns:///[::1]:2", ("a:1",), (("::1", 2),)),
    ],
)
def test_an_address_is_endpoints_and_names(
    text: str, endpoints: tuple[str, ...], names: tuple[tuple[str, int], ...]
) -> None:
    addresses = parse_addresses(text)
    assert (addresses.endpoints, addresses.names) == (endpoints, names)
    assert addresses.may_be_several == (text != "127.0.0.1:8001")


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:x", "a:1,", "a:1,,b:2", "dns:///a"])
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^NAIAD_TRITON_ADDRESS: '.*' is not HOST:PORT, nor dns:///NAME:PORT$"):
        parse_addresses(text)


def test_one_triton_is_named_once() -> None:
    with pytest.raises(SettingsError, match="names one Triton twice"):
        parse_addresses("a:1, a:1")


async def test_a_name_is_looked_up() -> None:
    assert "127.0.0.1:8001" in (await look_up(("localhost", 8001)) or ())
    assert await look_up(("::1", 2)) == {"[::1]:2"}
    assert await look_up(("no-such-name.invalid", 1)) is None
