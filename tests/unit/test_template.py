"""What chat templates would call, and what of it reaches inside Python."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.template import NAMES_KEPT, TEXT_LIMIT, examine_template

# Shapes of templates that many published models have.
ORDINARY = [
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    '{{- bos_token }}\n{%- if not date_string is defined %}{%- set date_string = "26 Jul" %}'
    "{%- endif %}{%- set ns = namespace(found=false) %}{{- messages[0]['content']|trim }}"
    "{%- for t in tools %}{{- t | tojson(indent=4) }}{%- endfor %}",
    "{% if messages[loop.index0 - 1]['role'] in ['user', 'tool'] and loop.index0 % 2 == 0 %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ message.content.split('</think>')[-1].lstrip('\\n') }}",
    "{% macro render(x) %}{{ {'a': {'b': x}}.a.b }}{% endmacro %}{{ render(1)[0] }}",
    "plain text with __class__ outside of any block",
    "{# {{ x.__class__ }} is a comment #}",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_templates_are_no_danger(text: str) -> None:
    assert examine_template(text).dangers == []


def test_calls_are_told_in_order() -> None:
    found = examine_template(ORDINARY[2] + "{{ namespace() }}{{ namespace() }}")
    assert found.calls == ["raise_exception", ".split", ".lstrip", "namespace"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ ''.__class__.__mro__ }}", "__class__"),
        ("{{ self.__init__.__globals__.os.popen('id') }}", "__globals__"),
        ("{{ cycler.__init__ }}", "__init__"),
        ("{{ ''['__class__'] }}", "__class__"),
        ("{{ ''|attr('__class__') }}", "__class__"),
        ("{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}", "__class__"),
        ("{{ ''['\\137\\137class__'] }}", "__class__"),
        ("{{ ''['__cla' ~ 'ss__'] }}", "__cla"),
        ("{{ x['_' * 2 ~ 'class' ~ '_' * 2] }}", "puts together"),
        ("{{ x|attr('a' ~ y) }}", "puts together"),
        ("{{ x|attr(['a', 'b']|join) }}", "puts together"),
        ('{{ "}}" ~ x.__class__ }}', "__class__"),
        ("{{ '%}' }}{% set y = x.__class__ %}", "__class__"),
        ("{{ {'a': {}}.__class__ }}", "__class__"),
        ("{{ f.gi_frame.f_globals }}", "gi_frame"),
        ("{{ x.mro() }}", "mro"),
        ("{% import 'x' as y %}", "import"),
        ("{%- from 'x' import y %}", "from"),
        ("{% include x %}", "include"),
        ("{% extends 'x' %}", "extends"),
        ("{% raw %}{{ ''.__class__ }}{% endraw %}", "__class__"),
        ("{{ x.__class__", "__class__"),
    ],
)
def test_what_reaches_inside_is_danger(text: str, why: str) -> None:
    dangers = examine_template(text).dangers
    assert any(why in one for one in dangers), dangers


def test_names_are_bounded() -> None:
    text = "".join(f"{{{{ f{at}() }}}}{{{{ x.__a{at}__ }}}}" for at in range(500))
    found = examine_template(text)
    assert len(found.calls) == len(found.dangers) == NAMES_KEPT
    (name,) = examine_template("{{ " + "f" * 10_000 + "() }}").calls
    assert len(name) == 100


def test_what_is_too_long_is_said() -> None:
    found = examine_template("x" * (TEXT_LIMIT + 1))
    assert found.dangers == [
        f"it is longer than {TEXT_LIMIT} characters; the rest was not looked at"
    ]


@given(st.text(alphabet="{}%#'\"\\_()[]|~ a1.\n-", max_size=200))
def test_any_text_is_read(text: str) -> None:
    found = examine_template(text)
    assert len(found.calls) <= NAMES_KEPT


@pytest.mark.parametrize("part", ["{{", "{%", "'", '"', "\\", "{", "[", "x|attr(", "{{ '\\", "_"])
def test_repeated_marks_are_read_to_the_end(part: str) -> None:
    text = "{{ " + part * (200_000 // len(part)) + " }}{{ x.__class__ }}"
    found = examine_template(text)
    assert len(found.dangers) <= NAMES_KEPT
