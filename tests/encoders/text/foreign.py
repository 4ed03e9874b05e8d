"""Checkpoints as other people save them: small, random, each with a tokenizer of its own kind."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
POSITIONS = {"xlm-roberta": 42, "bert": 40, "modernbert": 40, "electra": 40}
KINDS = tuple(POSITIONS)
"""40 tokens a text each; XLM-R's positions count from 2."""


def foreign_tokenizer(kind: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """Unigram for XLM-R, WordPiece for BERT and ELECTRA, byte-level BPE for ModernBERT."""
    if kind == "xlm-roberta":
        names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        first = [names[role] for role in ("bos", "pad", "eos", "unk")]  # and the mask comes last
        trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=first, unk_token="<unk>")
    else:
        names = {"pad": "[PAD]", "unk": "[UNK]", "bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"}
        if kind == "modernbert":
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
            trainer = trainers.BpeTrainer(
                vocab_size=320, special_tokens=[*names.values()], initial_alphabet=sorted(alphabet), show_progress=False
            )
        else:
            tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
            tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
            trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=[*names.values()], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "xlm-roberta":
        state = json.loads(tokenizer.to_str())
        state["model"]["vocab"].append([names["mask"], 0.0])
        tokenizer = Tokenizer.from_str(json.dumps(state))
        tokenizer.add_special_tokens([names["mask"]])
    start, end = names["bos"], names["eos"]
    ids = [(token, tokenizer.token_to_id(token)) for token in (start, end)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ids)
    bos = ("bos", "eos") if kind == "xlm-roberta" else ("cls", "sep")
    roles = {f"{bos[0]}_token": start, f"{bos[1]}_token": end}
    roles |= {f"{role}_token": names[role] for role in ("pad", "unk", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=40, **roles)


def save_foreign(kind: str, folder: Path, texts: list[str], **settings: object) -> None:
    """Writes a masked model of a kind, every weight random, as transformers saves it.

    Args:
        kind: One of `KINDS`.
        folder: Where.
        texts: What its tokenizer is made of.
        **settings: Of its configuration.
    """
    tokenizer = foreign_tokenizer(kind, texts)
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.convert_tokens_to_ids("<s>" if kind == "xlm-roberta" else "[CLS]"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("</s>" if kind == "xlm-roberta" else "[SEP]"),
    }
    own = {"embedding_size": 8} if kind == "electra" else {}
    own |= {"norm_eps" if kind == "modernbert" else "layer_norm_eps": 1e-3}
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS[kind],
        **(SIZE | special | own | settings),
    )
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases too, which start at zero
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
