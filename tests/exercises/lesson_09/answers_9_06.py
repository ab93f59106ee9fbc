"""Answers to 9.6, a property: each function's body is a cell."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.exercises.written import Answers

ANSWERS = Answers("9.6")


@ANSWERS.right
def decorated():
    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(
        first=st.lists(st.text(" aA", max_size=2), min_size=2, max_size=3),
        gone=st.lists(st.integers(0, 2), max_size=3),
        then=st.lists(st.lists(st.text(" aA", max_size=2), min_size=1, max_size=3), max_size=3),
    )
    def test_property(new_chat, first, gone, then):
        chat = new_chat()
        chat.say(*first)
        model = list(first)
        for n in gone:
            try:
                chat.forget(n)
            except IndexError:
                assert n >= len(model)
            else:
                del model[n]
        for texts in then:
            chat.say(*texts)
            model.extend(texts)
        assert chat.read() == model


@ANSWERS.right
def a_state_machine():
    def test_property(new_chat):
        class Machine(RuleBasedStateMachine):
            def __init__(self):
                super().__init__()
                self.chat, self.model = new_chat(), []

            @rule(texts=st.lists(st.sampled_from(["a", "A", " a", ""]), min_size=1, max_size=3))
            def say(self, texts):
                self.chat.say(*texts)
                self.model += texts

            @precondition(lambda self: self.model)
            @rule(data=st.data())
            def forget(self, data):
                n = data.draw(st.integers(0, len(self.model) - 1))
                self.chat.forget(n)
                self.model.pop(n)

            @rule(more=st.integers(0, 2))
            def forget_nothing(self, more):
                with pytest.raises(IndexError):
                    self.chat.forget(len(self.model) + more)

            @rule()
            def read(self):
                assert self.chat.read() == self.model

            def teardown(self):
                assert self.chat.read() == self.model

        run_state_machine_as_test(Machine, settings=settings(deadline=None))


@ANSWERS.right
def async_with_data():
    @settings(deadline=None)
    @given(st.data())
    async def test_property(new_chat, data):
        chat, model = new_chat(), []
        for _ in range(data.draw(st.integers(1, 6))):
            if model and data.draw(st.booleans()):
                n = data.draw(st.integers(0, len(model) - 1))
                await asyncio.to_thread(chat.forget, n)
                model = model[:n] + model[n + 1 :]
            elif data.draw(st.booleans()):
                with pytest.raises(IndexError):
                    chat.forget(len(model))
            else:
                texts = data.draw(st.lists(st.text(st.sampled_from("Aa "), max_size=1), min_size=1, max_size=4))
                await asyncio.to_thread(chat.say, *texts)
                model = model + texts
            assert chat.read() == model


@ANSWERS.right
def exotic_and_alike():
    alike = st.text("aA \t", max_size=2) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    steps = st.lists(st.tuples(st.lists(alike, min_size=1, max_size=2), st.integers(0, 5)), min_size=1, max_size=5)

    @pytest.mark.parametrize("forgets", [True])
    @given(steps=steps)
    @example(steps=[(["a", "A"], 0), (["a", "a"], 1), ([" "], 0)])
    @settings(deadline=None, max_examples=100)
    def test_property(new_chat, forgets, steps):
        chat, model = new_chat(), []
        for texts, n in steps:
            chat.say(*texts)
            model += texts
            if n >= len(model):
                with pytest.raises(IndexError):
                    chat.forget(n)
            elif forgets:
                chat.forget(n)
                model.pop(n)
            assert chat.read() == model


@ANSWERS.wrong("never called")
def never_says():
    @settings(deadline=None)
    @given(st.integers())
    def test_property(new_chat, n):
        assert new_chat().read() == []


@ANSWERS.wrong("not storable")
def all_of_unicode():
    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(texts=st.lists(st.text(), min_size=1))
    def test_property(new_chat, texts):
        chat = new_chat()
        chat.say(*texts)
        assert chat.read() == texts


@ANSWERS.wrong("deadline")
def with_a_deadline():
    @given(texts=st.lists(st.text("aA ", max_size=2), min_size=1))
    def test_property(new_chat, texts):
        chat = new_chat()
        chat.say(*texts)
        assert chat.read() == texts


@ANSWERS.wrong("always fails")
def expects_one_string():
    @settings(deadline=None)
    @given(texts=st.lists(st.text("aA ", max_size=2), min_size=1))
    def test_property(new_chat, texts):
        chat = new_chat()
        chat.say(*texts)
        assert chat.read() == "".join(texts)


@ANSWERS.wrong("always fails")
def one_chat_for_all_and_forgets_it():
    chats = []

    @settings(deadline=None)
    @given(texts=st.lists(st.text("aA ", max_size=2), min_size=1))
    def test_property(new_chat, texts):
        if not chats:
            chats.append(new_chat())
        chats[0].say(*texts)
        assert chats[0].read() == texts


@ANSWERS.wrong("false alarm")
def expects_what_is_neat():
    @settings(deadline=None)
    @given(texts=st.lists(st.text("aA ", max_size=2), min_size=1))
    def test_property(new_chat, texts):
        chat = new_chat()
        chat.say(*texts)
        assert chat.read() == [text.strip() for text in texts]


@ANSWERS.wrong("few examples")
def one_example():
    def test_property(new_chat):
        chat = new_chat()
        chat.say("one", "two", "three")
        assert chat.read() == ["one", "two", "three"]
        chat.forget(1)
        chat.say("four")
        assert chat.read() == ["one", "three", "four"]


@ANSWERS.wrong("never forgets")
def only_says():
    @settings(deadline=None)
    @given(steps=st.lists(st.lists(st.text("aA ", max_size=2), min_size=1, max_size=3), min_size=1))
    def test_property(new_chat, steps):
        chat = new_chat()
        for texts in steps:
            chat.say(*texts)
        assert chat.read() == [text for texts in steps for text in texts]


@ANSWERS.wrong("deadline")
def a_limit_of_its_own():
    @settings(deadline=300)
    @given(texts=st.lists(st.text("aA ", max_size=2), min_size=1))
    def test_property(new_chat, texts):
        chat = new_chat()
        chat.say(*texts)
        assert chat.read() == texts


@ANSWERS.wrong("nothing there")
def only_places_that_are_there():
    @settings(deadline=None)
    @given(steps=st.lists(st.one_of(st.lists(st.text("aA ", max_size=2), min_size=1, max_size=3), st.integers(0, 9))))
    def test_property(new_chat, steps):
        chat, model = new_chat(), []
        for step in steps:
            if isinstance(step, list):
                chat.say(*step)
                model += step
            elif model:
                chat.forget(step % len(model))
                del model[step % len(model)]
            assert chat.read() == model


@ANSWERS.wrong("one at a time")
def one_text_in_a_call():
    @settings(deadline=None)
    @given(steps=st.lists(st.one_of(st.text("aA ", max_size=2), st.integers(0, 5)), max_size=8))
    def test_property(new_chat, steps):
        chat, model = new_chat(), []
        for step in steps:
            if isinstance(step, str):
                chat.say(step)
                model.append(step)
            elif step < len(model):
                chat.forget(step)
                del model[step]
            else:
                with pytest.raises(IndexError):
                    chat.forget(step)
            assert chat.read() == model


@ANSWERS.wrong("lives")
def bears_with_any_index_error():
    @settings(deadline=None)
    @given(steps=st.lists(st.one_of(st.lists(st.text("aA ", max_size=2), min_size=1, max_size=3), st.integers(0, 3))))
    def test_property(new_chat, steps):
        chat, model = new_chat(), []
        for step in steps:
            if isinstance(step, list):
                chat.say(*step)
                model += step
            else:
                try:
                    chat.forget(step)
                except IndexError:
                    continue
                assert step < len(model)
                del model[step]
            assert chat.read() == model


@ANSWERS.wrong("lives")
def small_letters_only():
    @settings(deadline=None)
    @given(steps=st.lists(st.one_of(st.lists(st.text("a ", max_size=2), min_size=1, max_size=3), st.integers(0, 3))))
    def test_property(new_chat, steps):
        chat, model = new_chat(), []
        for step in steps:
            if isinstance(step, list):
                chat.say(*step)
                model += step
            elif step < len(model):
                chat.forget(step)
                del model[step]
            else:
                with pytest.raises(IndexError):
                    chat.forget(step)
            assert chat.read() == model


@ANSWERS.wrong("lives")
def strips_the_difference():
    @settings(deadline=None)
    @given(steps=st.lists(st.one_of(st.lists(st.text("aA ", max_size=2), min_size=1, max_size=3), st.integers(0, 9))))
    def test_property(new_chat, steps):
        chat, model = new_chat(), []
        for step in steps:
            if isinstance(step, list):
                chat.say(*step)
                model += step
            elif model:
                chat.forget(step % len(model))
                del model[step % len(model)]
            assert [text.strip() for text in chat.read()] == [text.strip() for text in model]


@ANSWERS.wrong("lives")
def sorts_both():
    @settings(deadline=None)
    @given(steps=st.lists(st.one_of(st.lists(st.text("aA ", max_size=2), min_size=1, max_size=3), st.integers(0, 9))))
    def test_property(new_chat, steps):
        chat, model = new_chat(), []
        for step in steps:
            if isinstance(step, list):
                chat.say(*step)
                model += step
            elif model:
                chat.forget(step % len(model))
                del model[step % len(model)]
            assert sorted(chat.read()) == sorted(model)


@ANSWERS.wrong("lives")
def words_that_are_all_different():
    @settings(deadline=None)
    @given(count=st.integers(2, 6), gone=st.integers(0, 5))
    def test_property(new_chat, count, gone):
        chat, model = new_chat(), [f"word {n}" for n in range(count)]
        chat.say(*model)
        if gone < count:
            chat.forget(gone)
            del model[gone]
        chat.say("more")
        assert chat.read() == [*model, "more"]
