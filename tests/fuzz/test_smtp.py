"""The fuzzer of the SMTP front in its short form; `make fuzz-smtp SECONDS=1800` is the long one."""

from tests.fuzz.smtp import fuzz, seeds


async def test_a_few_hundred_inputs() -> None:
    report = await fuzz(seed=1, seconds=60, most=len(seeds()) + 300)
    assert not report.finding
    assert report.inputs == len(seeds()) + 300
    assert report.edges > 400
