"""Tasks out of data cards: the parts of an atlas, and the classes of texts."""

from toolkit.finetune.task import Task
from toolkit.scans import AtlasTaskConfig, RegisteredScans, atlas_task
from toolkit.splits import thin
from toolkit.text import DividedCorpora


def atlas_tasks(registered: RegisteredScans, config: AtlasTaskConfig) -> list[Task]:
    """One task: which part of the atlas a patch of an unseen subject is from."""
    return [Task(**atlas_task(registered, config))]


def text_tasks(
    corpora: DividedCorpora, name: str, *, max_test_per_class: int | None = None, seed: int = 0
) -> list[Task]:
    """A task for each card that holds labelled texts out, and for each of its languages.

    Args:
        corpora: Divided texts; all training texts of the language are there to learn from without labels.
        name: What is told apart, such as "sentiment".
        max_test_per_class: The test is thinned at random to so many texts of each class; all when not given.
        seed: Of the thinning.
    """
    tasks = []
    for card, test in corpora.test.items():
        if not (test.labels >= 0).any():  # held out for other ends, such as finding translations
            continue
        for language in sorted(set(test.languages)):
            pool = corpora.train[card].of_language(language)
            pool = pool.take(pool.labels >= 0)
            judged = test.of_language(language)
            if max_test_per_class is not None:
                judged = judged.take(thin(judged.labels, max_test_per_class, seed=seed))
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
