from vla.report.markdown import HEADER, success_table


def test_every_row_has_every_column(facts):
    lines = success_table(facts).splitlines()
    assert len(lines) == 2 + len(facts["rows"])
    assert {line.count("|") for line in lines} == {len(HEADER) + 1}


def test_values_as_measured_and_dashes_where_not(facts):
    lines = success_table(facts).splitlines()
    assert lines[2] == "| policy | 87 % | 79–92 % | 100 | 87 | 31.3 | 12.3 ms | 0 |"
    assert lines[3] == "| expert (scripted) | 100 % | 96–100 % | 100 | 100 | 31.3 | – | 0 |"
    assert lines[7] == "| wrong instruction: what was not said | 1 % | 0.2–5 % | 100 | – | – | – | 0 |"


def test_a_bar_or_a_line_break_in_a_name_does_not_break_the_table(facts):
    facts["rows"] = [{**facts["rows"][0], "name": "a|b\nc"}]
    assert success_table(facts).splitlines()[2].startswith("| a\\|b c |")
