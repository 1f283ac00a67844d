"""The table of public data sets: title, owner's page, licence, files with published checksums, layouts, expected counts."""

from __future__ import annotations

from palate.data.public.amazon import AMAZON
from palate.data.public.entry import Counts, Download, Layout, PublicData, counts

GROUPLENS = "https://files.grouplens.org/datasets"
MOVIELENS = (
    "research use; no redistribution without permission; acknowledge GroupLens (University of Minnesota) and cite Harper and "
    "Konstan 2015"
)
YELP = "Yelp dataset terms: academic use, no redistribution"
LIBREC = "https://guoguibing.github.io/librec/datasets.html"
MERREC = "https://huggingface.co/datasets/mercari-us/merrec"
MERREC_TERMS = "CC BY-NC 4.0: no commercial use; cite the MerRec paper (arXiv 2402.14230)"
RAW_LIGHTGCN = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data"


def _movielens(
    name: str, title: str, page: str, checksum: str, expected: Counts, *layouts: Layout, note: str = ""
) -> PublicData:
    url = f"https://grouplens.org/datasets/movielens/{page}/"
    files = (Download(f"{GROUPLENS}/movielens/{name}.zip", checksum),)
    return PublicData(name, title, url, MOVIELENS, layouts, expected, files, note=note)


def _lightgcn(name: str, title: str, url: str, expected: Counts, blobs: dict[str, str], sizes: dict[str, int]) -> PublicData:
    return PublicData(
        name,
        f"{title} (LightGCN split)",
        url,
        "split published with LightGCN: cite the data's owner and He et al. 2020",
        (Layout("train.txt", "lightgcn"),),
        expected,
        tuple(Download(f"{RAW_LIGHTGCN}/{name}/{part}.txt", f"git:{blob}") for part, blob in blobs.items()),
        parts=sizes,
        note="no times: the order of items says nothing; checksums are the ids of the files in the owner's git repository",
    )


PUBLIC: tuple[PublicData, ...] = (
    _movielens(
        "ml-100k", "MovieLens 100K", "100k", "md5:0e33842e24a9c977be4e0107933c0723", counts(943, 1_682, 100_000),
        Layout("ml-100k.inter", "recbole"), Layout("u.data", "movielens"),
        note="where GroupLens can't be reached, the copy inside the recbole 1.2.1 wheel is taken",
    ),
    _movielens(
        "ml-1m", "MovieLens 1M", "1m", "md5:c4d9eecfca2ab87c1945afe126590906", counts(6_040, 3_706, 1_000_209),
        Layout("ratings.dat", "movielens"), Layout("sequences.txt", "sequences", counts=counts(6_040, 3_416, 999_602)),
        note="sequences.txt is the edition of the SASRec and BERT4Rec studies: items with 5 ratings or more, in order of time",
    ),
    _movielens(
        "ml-20m", "MovieLens 20M", "20m", "md5:cd245b17a1ae2cc31bb14903e1204af3", counts(138_493, 26_744, 20_000_263),
        Layout("ratings.csv", "movielens"), note="27,278 films are listed, 26,744 of them are rated",
    ),
    _movielens(
        "ml-latest-small", "MovieLens latest-small", "latest", "", counts(610, 9_724, 100_836),
        Layout("ratings.csv", "movielens"),
        note="the owner may replace this file by a later edition (counts of 2018), so there is no lasting checksum",
    ),
    *AMAZON,
    _lightgcn(
        "gowalla", "Gowalla check-ins", "https://snap.stanford.edu/data/loc-gowalla.html", counts(29_858, 40_981, 1_027_370),
        {"train": "a27782bd7a1d4d0744148dc0460ea94da74763f2", "test": "9ed5af4b5d21511f33740b4e22e3852f45671800"},
        {"train": 810_128, "test": 217_242},
    ),
    _lightgcn(
        "yelp2018", "Yelp 2018", "https://www.yelp.com/dataset", counts(31_668, 38_048, 1_561_406),
        {"train": "cda12361055ba448ae4bd1070f6000c16dea8f22", "test": "30dfbc3437b27b74cb2970b435a5ec93ad9f2468"},
        {"train": 1_237_259, "test": 324_147},
    ),
    _lightgcn(
        "amazon-book", "Amazon Book", "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        counts(52_643, 91_599, 2_984_108),
        {"train": "6ef55159c5f1fd7f6d86eb9ff290d0cc2854ac99", "test": "09e5da4e0bf46c751c4ba0f4375e414fd13512cd"},
        {"train": 2_380_730, "test": 603_378},
    ),
    PublicData(
        "lastfm-hetrec-2k", "Last.FM, HetRec 2011", "https://grouplens.org/datasets/hetrec-2011/",
        "non-commercial research; cite HetRec 2011 and Last.fm", (Layout("user_artists.dat", "lastfm"),),
        counts(1_892, 17_632, 92_834), (Download(f"{GROUPLENS}/hetrec2011/hetrec2011-lastfm-2k.zip"),),
    ),
    PublicData(
        "coat", "Coat Shopping", "https://www.cs.cornell.edu/~schnabts/mnar/", "research use; cite Schnabel et al. 2016",
        (Layout("train.ascii", "coat"),), counts(290, 300, 11_600), (Download("https://www.cs.cornell.edu/~schnabts/mnar/coat.zip"),),
        {"train": 6_960, "test": 4_640},
        note="train: articles that people chose to rate; test: articles chosen at random, 366 of which they had rated already",
    ),
    PublicData(
        "goodbooks-10k", "goodbooks-10k", "https://github.com/zygmuntz/goodbooks-10k", "CC BY-SA 4.0",
        (Layout("ratings.csv", "csv", "ratings.csv", items=("books.csv", "book_id")),), counts(53_424, 10_000, 5_976_479),
        (Download("https://github.com/zygmuntz/goodbooks-10k/releases/download/v1.0/goodbooks-10k.zip"),),
    ),
    PublicData(
        "yelp-text", "Yelp with titles and categories (S3-Rec edition)", "https://www.yelp.com/dataset", YELP,
        (Layout("sequences.txt", "sequences"),), counts(30_431, 20_033, 316_354), note="from the files of the S3-Rec study",
    ),
    PublicData(
        "yelp-social", "Yelp with friends (heterogeneous-network edition)", "https://www.yelp.com/dataset", YELP,
        (Layout("user_business.dat", "hin-yelp"),), counts(16_239, 14_284, 198_397),
    ),
    PublicData(
        "social-epinions", "Epinions with trust (DSL edition, training part)", "http://www.trustlet.org/epinions.html",
        "research use", (Layout("trust.csv", "folder"),), counts(11_111, 190_774, 239_645),
    ),
    PublicData(
        "social-ciao", "CiaoDVD with trust (DSL edition, training part)", LIBREC, "research use",
        (Layout("trust.csv", "folder"),), counts(6_672, 98_875, 192_221),
    ),
    PublicData(
        "social-filmtrust", "FilmTrust", LIBREC, "research use", (Layout("trust.csv", "folder"),), counts(1_508, 2_071, 35_497),
    ),
    PublicData(
        "merrec", "MerRec: Mercari US, May to October 2023", MERREC, MERREC_TERMS, (Layout("20231001", "merrec"),),
        counts("5.56M", "83.07M", "1.27B"),
        note="events of a marketplace between people; some 40 GB in memory: read a month (merrec-2023-05), or the "
        "events in blocks with palate.data.readers.merrec.SequenceBlocks",
    ),
    PublicData(
        "merrec-2023-05", "MerRec: Mercari US, May 2023", MERREC, MERREC_TERMS, (Layout("20230501", "merrec", "20230501"),),
        folder="merrec", note="the month of the published benchmarks; the owner publishes no counts of single months",
    ),
)  # fmt: skip
