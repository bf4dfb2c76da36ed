from vla.deploy.engines.returns import Returns


def test_a_client_is_expected_as_long_after_its_answer_as_the_last_time() -> None:
    returns = Returns()
    returns.answered(3, 10.0)
    assert not returns.soon(10.0, 1.0, ())  # nothing is known of it
    returns.asked(3, 10.5)
    assert not returns.soon(10.6, 1.0, ())  # it is there
    returns.answered(3, 20.0)
    assert not returns.soon(20.1, 0.3, ())  # too far off
    assert returns.soon(20.3, 0.3, ())
    assert not returns.soon(20.3, 0.3, (3,))
    assert returns.soon(20.9, 0.3, ())  # late
    assert not returns.soon(21.1, 0.3, ())  # too late


def test_one_who_pauses_no_longer_is_expected_sooner() -> None:
    returns = Returns()
    for answered, asked in ((0.0, 5.0), (6.0, 6.1)):
        returns.answered(1, answered)
        returns.asked(1, asked)
    returns.answered(1, 7.0)
    assert returns.soon(7.0, 0.2, ())
