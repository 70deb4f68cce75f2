"""Reading what files claim about themselves, within bounds."""

from hartonomous.core.claims import MAX_NUMBER, Claims, NoticeLog, clean


def test_texts_are_cut_and_cleaned() -> None:
    assert clean("a\x1b[31m\r\nb\u202ec") == "a [31m b c"
    assert clean("é" * 1000, 1024) == "é" * 512
    assert clean("\ud800x") == "?x"


def test_notices_are_bounded() -> None:
    log = NoticeLog()
    claims = Claims(dict.fromkeys(map(str, range(100)), "no number"), origin="o", log=log)
    assert [claims.count(str(index)) for index in range(100)] == [None] * 100
    notices = log.notices()
    assert len(notices) == 32 and notices[-1].text.startswith("69 more")
    assert Claims({"n": MAX_NUMBER}, origin="o", log=log).count("n") == MAX_NUMBER
    assert Claims({"n": MAX_NUMBER + 1}, origin="o", log=log).count("n") is None
