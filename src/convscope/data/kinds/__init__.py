"""What examples may be, one kind a file.

| kind | inputs of a batch | its targets | weighs |
|---|---|---|---|
| labelled | pictures (n, c, h, w) | class numbers (n,) | pictures |
| boxes | pictures (n, c, H, W), their sizes (n, 2) | ``BoxTargets`` | pictures |
| maps | pictures (n, c, H, W) | class numbers (n, H, W) | pixels that have a class |
| pairs | first and second pictures (n, c, h, w) | 1 where of the same class, else 0 (n,) | pairs |
| sentences | tokens (n, t), their lengths (n,) | class numbers (n,) | sentences |
| captions | pictures (n, c, H, W), their sizes (n, 2) | ``CaptionTargets`` | captions, or their tokens |
| parallel | source tokens (n, s), target begun (n, t) | target to be foretold (n, t) | target tokens |

Pictures of different sizes have 0 at the right and at the bottom, short rows of tokens 0 behind.
"""
