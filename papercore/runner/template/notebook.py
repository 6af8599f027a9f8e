# %% [markdown]
# # TITLE
#
# A demo without a model: synthetic scores with a known effect, one claim, one control. Write the paper's idea over it.

# %%
import papercore
from papercore.papers.SLUG import data

papercore.card("SLUG")

# %% tags=["parameters"]
profile = "cpu"  # size of the run: smoke, cpu or paper
budget_seconds = 60.0  # time the run should take on two cores, s
seed = 0  # seed of everything random
device = "auto"  # auto takes CUDA where there is one
n_texts = 400  # texts with one score each; the paper's value: unknown
effect = 0.5  # true rise of the mean score, in standard deviations

# %%
study = papercore.Study.open("SLUG", parameters=globals())

# %% [markdown]
# ## The treatment raises the mean score
#
# Each text is scored twice, so that the arms are paired: $d_i = t_i - p_i$, and the claim is about the mean of $d$.
# In the control the sign of every $d_i$ is drawn at random: whatever is found there is noise.

# %%
papercore.show(data.scores)

# %%
table = data.scores(n_texts, effect, seed)
table.describe().loc[["mean", "std"]].round(3)

# %%
import matplotlib.pyplot as plt
import seaborn as sns

figure, ax = plt.subplots()
sns.histplot(table["treated"] - table["plain"], ax=ax, stat="density", label="treated")
sns.histplot(table["shuffled"] - table["plain"], ax=ax, stat="density", label="control: signs at random")
ax.set(xlabel="score - plain score (standard deviations)")
ax.legend()
study.figure("differences", figure, data=table)

# %%
arms = {name: table[["unit", name]].rename(columns={name: "value"}) for name in ("plain", "treated", "shuffled")}
study.claim("C1", treated=arms["treated"], plain=arms["plain"], control=arms["shuffled"])

# %% [markdown]
# ## Ledger

# %%
study.ledger()

# %%
# NBVAL_CHECK_OUTPUT
study.check()

# %% [markdown]
# ## What this scale cannot show
#
# Nothing here comes from a model or from the paper.
#
# ## Exercises
#
# 1. How small may the effect be before the interval crosses zero?

# %% tags=["solution"]
for smaller in (0.2, 0.1, 0.05):
    rise = data.scores(n_texts, smaller, seed).eval("treated - plain")
    print(f"effect {smaller}: {rise.mean():.3f} +- {1.96 * rise.std() / len(rise) ** 0.5:.3f}")

# %% [markdown]
# ## Provenance

# %%
study.provenance()
