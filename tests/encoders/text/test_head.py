import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

import toolkit
from tests.encoders.text.foreign import KINDS
from toolkit.encoders.text import LMHead, TextEncoder, TextEncoderConfig
from toolkit.errors import ConfigError
from toolkit.text.tokenizer import TextTokenizer


def small(tokenizer: TextTokenizer, kind: str = "bert") -> TextEncoder:
    narrow = {"embedding_size": 8} if kind == "electra" else {}
    config = TextEncoderConfig(architecture=kind, num_layers=2, hidden_size=16, num_heads=2, max_length=24, **narrow)
    return TextEncoder.from_scratch(config, tokenizer).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_head_opens_in_transformers_and_here(
    kind: str, tokenizer: TextTokenizer, texts: list[str], tmp_path: Path
) -> None:
    encoder = small(tokenizer, kind)
    head = encoder.take_lm_head()
    assert isinstance(head, LMHead) and encoder.take_lm_head() is head is encoder.lm_head
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # an objective trained it
    encoder.save_pretrained(tmp_path)
    batch = encoder.collate(texts)
    model, loading = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]
    with torch.no_grad():
        logits = head.logits(encoder(batch).last, encoder.token_embeddings)
        assert logits.shape == (*batch["input_ids"].shape, encoder.vocab_size)
        torch.testing.assert_close(model.eval()(**batch).logits, logits, rtol=1e-5, atol=1e-5)
        opened = toolkit.load_encoder(tmp_path)
        assert torch.equal(opened.lm_head.logits(opened(batch).last, opened.token_embeddings), logits)


def test_the_head_is_no_part_of_the_encoder(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    encoder = small(tokenizer)
    before = len(list(encoder.parameters())), set(encoder.state_dict())
    encoder.take_lm_head()
    assert (len(list(encoder.parameters())), set(encoder.state_dict())) == before
    plain = small(tokenizer)
    plain.save_pretrained(tmp_path)
    assert toolkit.load_encoder(tmp_path).lm_head is None


def test_copies_take_the_head_along(tokenizer: TextTokenizer) -> None:
    encoder = small(tokenizer)
    objective = torch.nn.ModuleDict({"encoder": encoder, "head": encoder.take_lm_head()})
    twin = copy.deepcopy(objective)
    assert twin["encoder"].lm_head is twin["head"] is not objective["head"]
    assert torch.equal(twin["head"].transform[0].weight, objective["head"].transform[0].weight)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "electra"])
def test_a_causal_encoder_looks_left_only_and_stays_so(
    kind: str, tokenizer: TextTokenizer, texts: list[str], tmp_path: Path
) -> None:
    encoder = small(tokenizer, kind)
    assert not encoder.is_causal
    batch = encoder.collate([texts[0]])
    both_ways = encoder(batch).last.detach()
    encoder.set_causal()
    encoder.take_lm_head()
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, -2] = 7 if changed["input_ids"][0, -2] != 7 else 8
    encoder.save_pretrained(tmp_path)
    opened, plain = toolkit.load_encoder(tmp_path), AutoModel.from_pretrained(tmp_path).eval()
    assert opened.is_causal and copy.deepcopy(encoder).is_causal
    with torch.no_grad():
        before, after = encoder(batch).last[0], encoder(changed).last[0]
        assert torch.equal(before[:-2], after[:-2]) and not torch.allclose(before[-2:], after[-2:])
        for other in (opened, copy.deepcopy(encoder)):
            torch.testing.assert_close(other(batch).last[0], before)
        torch.testing.assert_close(plain(**batch).last_hidden_state[0], before)
        logits = encoder.lm_head.logits(before, encoder.token_embeddings)
        model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(model(**batch).logits[0], logits, rtol=1e-5, atol=1e-5)
        encoder.set_causal(False)
        assert torch.equal(encoder(batch).last, both_ways)


def test_modernbert_cannot_be_causal(tokenizer: TextTokenizer) -> None:
    encoder = small(tokenizer, "modernbert")
    encoder.set_causal(False)
    with pytest.raises(ConfigError, match="take bert"):
        encoder.set_causal()
