"""The image keeps the contract that clients depend on: the same tests, against a hardened container.

They use the fixtures `client` and `server`, which in this folder lead to the container.
"""

from tests.test_contract import *  # noqa: F403
