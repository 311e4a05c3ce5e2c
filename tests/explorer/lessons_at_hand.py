"""A lesson for tests: every kind of question, in both languages, on LeNet-5 and scikit-learn's digits."""

from __future__ import annotations

LESSON = """
title = { en = "A first lesson", zh = "第一课" }
item = 3

[[step]]
title = { en = "The network", zh = "网络" }
text = { en = "A **picture** goes in; `u = Σ w·x + b`.", zh = "图片从左边进入。" }
hover = "c1/2"

[[step]]
title = { en = "One unit", zh = "一个单元" }
text = { en = "The unit in the middle.", zh = "中间的单元。" }
at = "c1/0/12/12"
[step.question]
kind = "number"
of = "value"
ask = { en = "What is u?", zh = "u 是多少？" }
hint = { en = "Add the products.", zh = "把乘积加起来。" }
why = { en = "That is the sum.", zh = "这就是和。" }
[step.then]
tab = "field"

[[step]]
title = { en = "A class", zh = "类别" }
text = { en = "Three of ten.", zh = "十个中的三个。" }
[step.question]
kind = "choice"
ask = { en = "Which has the largest probability?", zh = "哪一个的概率最大？" }
choices = [{ en = "1", zh = "1", target = 1 }, { en = "3", zh = "3", target = 3 }, { en = "8", zh = "8", target = 8 }]
of = "probability"
pick = "largest"

[[step]]
title = { en = "The largest", zh = "最大的" }
text = { en = "Find it.", zh = "找到它。" }
at = "s2/0"
[step.question]
kind = "click"
ask = { en = "Which of these four is largest?", zh = "这四个中哪个最大？" }
of = "value"
pick = "largest"
within = [6, 7, 7, 8]

[[step]]
title = { en = "A step", zh = "一步" }
text = { en = "After one step of training.", zh = "训练一步之后。" }
at = "output/3"
weight = "c1.weight/0/0/2/2"
tab = "gradient"
train = { steps = 2, rate = 0.1, momentum = 0.9, decay = 0.01 }
[step.question]
kind = "number"
of = "weight"
ask = { en = "What is w now?", zh = "w 现在是多少？" }
"""
