"""Tasks out of data cards: the parts of an atlas, and the classes of texts."""

from collections.abc import Sequence

from toolkit.finetune.task import Task
from toolkit.scans import AtlasTaskConfig, RegisteredScans, atlas_task
from toolkit.text import DividedCorpora


def atlas_tasks(registered: RegisteredScans, config: AtlasTaskConfig) -> list[Task]:
    """One task: which part of the atlas a patch of an unseen subject is from."""
    return [Task(**atlas_task(registered, config))]


def text_tasks(corpora: DividedCorpora, name: str, languages: Sequence[str] = ()) -> list[Task]:
    """A task for each card that holds labelled texts out, and for each of its languages.

    Args:
        corpora: Divided texts; all training texts of the language are there to learn from without labels.
        name: What is told apart, such as "sentiment".
        languages: Only these; all when empty.
    """
    tasks = []
    for card, test in corpora.test.items():
        for language in sorted(set(test.languages)):
            if languages and language not in languages:
                continue
            pool = corpora.train[card].of_language(language)
            pool = pool.take(pool.labels >= 0)
            judged = test.of_language(language)
            tasks.append(
                Task(
                    leg="text",
                    name=name,
                    language=language,
                    site="",
                    pool=pool.texts,
                    pool_labels=pool.labels,
                    pool_groups=pool.groups,
                    test=judged.texts,
                    test_labels=judged.labels,
                    test_groups=judged.groups,
                    class_names=test.class_names,
                    unlabelled=corpora.train_texts(language),
                )
            )
    return tasks
