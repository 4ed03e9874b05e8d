"""A working folder with made-up heads and texts, their data cards, and a configuration that ends in seconds.

What must not leave the data, the name of a patient, is in every place where hospitals have it: names of files, a
header, a column of the table.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

PATIENT = "Janedoe"
LANGUAGES = ("en", "sl")
TEST_SUBJECT = "s02"

HEADS_CARD = f"""---
pretty_name: Made-up heads
license: cc0-1.0
task_categories: [image-segmentation]
fewlabel:
  source: {{kind: path, path: ../heads}}
  reader:
    - {{format: volume, member: {PATIENT}_1.nii.gz, subject: s01, space: made-up}}
    - {{format: volume, member: {PATIENT}_2.nii.gz, subject: {TEST_SUBJECT}, space: made-up}}
    - {{format: volume, member: {PATIENT}_mean.nii.gz, subject: mean, population: average, space: made-up}}
    - {{format: volume, member: atlas.nii.gz, role: labels, labels_for: [s01], space: made-up}}
  label_map: {{back: [[1, 2]], middle: [[3, 4]], front: [[5, 6]]}}
  split: {{unit: subject, test_subjects: [{TEST_SUBJECT}]}}
  personal_data: {{status: pseudonymised, consent: made up for the test}}
---
Three noisy balls.
"""
TEXTS_CARD = """---
pretty_name: Made-up reviews
license: cc0-1.0
language: [en, sl]
task_categories: [text-classification]
fewlabel:
  source: {kind: path, path: ../texts}
  members: [{path: reviews.csv}]
  reader:
    - {format: table, member: reviews.csv, text: comment, label: stars, language: lang, group: patient}
  label_map: {negative: [[1, 2]], positive: [[4, 5]]}
  split: {unit: group, test_share: 0.3, stratify: [language]}
  personal_data: {status: pseudonymised, consent: made up for the test}
---
Sentences in two languages that nobody speaks.
"""
# Everything is as small as its section allows. `external` is left out: its weights take seconds to open.
CONFIG = """# fewlabel run domain --config tiny.yaml
output: runs/whole
num_threads: 1
scans:
  pretrain:
    cards: [heads]
    preprocessing: {spacing_mm: [4, 4, 4]}
    encoder: {patch_size: 8, width: 4}
    views: {patch_size: 8, shift_voxels: 1}
    objective: {name: simclr, hidden_dim: 16, projection_dim: 8}
    training: {num_steps: 6, batch_size: 8, log_every: 1, checkpoint_every: 2}
  study:
    task: lobes
    atlas: {patch_size: 8, pool_per_class: 30, test_per_class: 15, num_unlabelled: 60}
    study: {budgets: [2, 4], num_draws: 2, trained_budgets: [2], trained_draws: 2}
    scratch: {min_steps: 3, min_epochs: 1}
    finetune: {min_steps: 3, min_epochs: 1}
text:
  pretrain:
    cards: [texts]
    tokenizer: {vocab_size: 500}
    spectral: {dim: 8}
    encoder: {num_layers: 1, hidden_size: 16, num_heads: 2, max_length: 24}
    variants: {both: {static: true}, last: {}}
    stages:
      mlm: {objective: {name: mlm}, training: {num_steps: 6, batch_size: 8, log_every: 1, checkpoint_every: 2}}
      halves: {objective: {name: halves}, training: {num_steps: 4, batch_size: 8, log_every: 1, checkpoint_every: 2}}
  study:
    task: sentiment
    max_test_per_class: 20
    study:
      budgets: [2, 4]
      num_draws: 2
      trained_budgets: [2]
      trained_draws: 2
      methods: [majority, raw, pca, kmeans, random, scratch, ssl-probe, ssl-finetune]
    scratch: {min_steps: 3, min_epochs: 1}
    finetune: {min_steps: 3, min_epochs: 1}
"""


def write_working_folder(folder: Path) -> None:
    """Fills `folder` with `heads/`, `texts/`, `data_cards/` and `tiny.yaml`."""
    (folder / "data_cards").mkdir()
    (folder / "data_cards/heads.md").write_text(HEADS_CARD, encoding="utf-8")
    (folder / "data_cards/texts.md").write_text(TEXTS_CARD, encoding="utf-8")
    (folder / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    write_heads(folder / "heads")
    write_texts(folder / "texts")


def write_heads(folder: Path, size: int = 40, spacing_mm: float = 4.0) -> None:
    """Two persons, an average and an atlas: balls of three slabs, each with a texture of its own coarseness."""
    folder.mkdir()
    axis = np.arange(size) - (size - 1) / 2
    i, j, k = np.meshgrid(axis, axis, axis, indexing="ij")
    inside = (i / 13) ** 2 + (j / 16) ** 2 + (k / 13) ** 2 < 1
    slab = np.digitize(j, (-5, 5))
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = spacing_mm * axis[0]

    def save(name: str, array: np.ndarray) -> None:
        image = nib.Nifti1Image(np.where(inside, array, 0).astype(np.int16), affine)
        image.header["descrip"] = PATIENT
        nib.save(image, folder / name)

    for number, (name, strength) in enumerate({"1": 150, "2": 150, "mean": 50}.items()):
        noise = np.random.default_rng([number]).normal(size=(3, size, size, size))
        textures = [ndimage.gaussian_filter(noise[s], 0.5 + s) for s in range(3)]
        save(f"{PATIENT}_{name}.nii.gz", 1000 + strength * np.choose(slab, [t / t.std() for t in textures]))
    save("atlas.nii.gz", 1 + 2 * slab + (i > 0))


def write_texts(folder: Path, per_class: int = 80) -> None:
    """Sentences of random words; a quarter of them tells the class. Each patient wrote two, of one class."""
    folder.mkdir()
    rows = []
    for code, language in enumerate(LANGUAGES):
        rng = np.random.default_rng([code])
        consonants, vowels = ("bdgklmnprst", "aeio") if language == "en" else ("čšžvjzhcf", "aeou")
        syllables = [a + b for a in consonants for b in vowels]
        words = ["".join(rng.choice(syllables, 3)) for _ in range(150)]
        for label, stars in enumerate((1, 5)):
            telling = words[:20] if label else words[20:40]
            for number in range(per_class):
                chosen = [*rng.choice(telling, 3), *rng.choice(words[40:], 7)]
                patient = f"{PATIENT} {language} {label} {number // 2}"
                rows.append((" ".join(rng.permutation(chosen)), stars, language, patient))
    table = pd.DataFrame(rows, columns=["comment", "stars", "lang", "patient"])
    table.to_csv(folder / "reviews.csv", index=False)
