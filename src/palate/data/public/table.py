"""The table of public data sets: title, owner's page, licence, files with published checksums, layouts with expected counts."""

from __future__ import annotations

from palate.data.public.entry import Download, Layout, PublicData, counts

MOVIELENS = (
    "research use; no redistribution without permission; acknowledge GroupLens (University of Minnesota) and cite Harper and "
    "Konstan 2015"
)
AMAZON = "research use; cite the authors of the collection; no redistribution"
GROUPLENS = "https://files.grouplens.org/datasets"
LIGHTGCN = "split published with LightGCN; cite the data's owner and He et al. 2020"
RAW_LIGHTGCN = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data"
AMAZON_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only"


def _movielens(name: str, title: str, page: str, md5: str, layouts: tuple[Layout, ...]) -> PublicData:
    checksum = f"md5:{md5}" if md5 else ""
    files = (Download(f"{GROUPLENS}/movielens/{name}.zip", checksum),)
    return PublicData(name, title, f"https://grouplens.org/datasets/movielens/{page}/", MOVIELENS, layouts, files)


def _lightgcn(name: str, title: str, folder: str, page: str, size: tuple[int, int, int]) -> PublicData:
    files = tuple(Download(f"{RAW_LIGHTGCN}/{folder}/{part}.txt") for part in ("train", "test"))
    layouts = (Layout("train.txt", "lightgcn", counts(*size)),)
    return PublicData(name, title, page, LIGHTGCN, layouts, files, has_split=True)


def _amazon_2014(name: str, title: str, file: str, size: tuple[int, int, int]) -> PublicData:
    marker = f"reviews_{file}_5.json"
    return PublicData(
        name,
        title,
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        AMAZON,
        (Layout("sequences.txt", "sequences", counts(*size), "sequences.txt"), Layout(marker, "amazon", counts(*size))),
        (Download(f"{AMAZON_2014}/{marker}.gz"),),
    )


def _amazon_2023(name: str, title: str, file: str) -> PublicData:
    return PublicData(
        name,
        title,
        "https://amazon-reviews-2023.github.io/",
        AMAZON,
        (Layout(f"{file}.csv", "csv", {}, f"{file}.csv"),),
        (Download(f"{AMAZON_2023}/{file}.csv.gz"),),
    )


PUBLIC: tuple[PublicData, ...] = (
    _movielens("ml-100k", "MovieLens 100K", "100k", "0e33842e24a9c977be4e0107933c0723", (
        Layout("ml-100k.inter", "recbole", counts(943, 1682, 100_000)),
        Layout("u.data", "movielens", counts(943, 1682, 100_000)),
    )),
    _movielens("ml-1m", "MovieLens 1M", "1m", "c4d9eecfca2ab87c1945afe126590906", (
        Layout("ratings.dat", "movielens", counts(6040, 3883, 1_000_209)),
        Layout("sequences.txt", "sequences", counts(6040, 3416, 999_602), "sequences.txt"),
    )),
    _movielens("ml-20m", "MovieLens 20M", "20m", "cd245b17a1ae2cc31bb14903e1204af3", (
        Layout("ratings.csv", "movielens", counts(138_493, 27_278, 20_000_263)),
    )),
    _movielens("ml-latest-small", "MovieLens latest-small", "latest", "", (
        Layout("ratings.csv", "movielens", counts(610, 9742, 100_836)),
    )),
    _amazon_2014("amazon-beauty", "Amazon Beauty 2014, 5-core", "Beauty", (22_363, 12_101, 198_502)),
    _amazon_2014("amazon-sports", "Amazon Sports and Outdoors 2014, 5-core", "Sports_and_Outdoors", (35_598, 18_357, 296_337)),
    _amazon_2014("amazon-toys", "Amazon Toys and Games 2014, 5-core", "Toys_and_Games", (19_412, 11_924, 167_597)),
    _amazon_2014("amazon-games-2014", "Amazon Video Games 2014, 5-core", "Video_Games", (24_303, 10_672, 231_780)),
    _amazon_2023("amazon-2023-all-beauty", "Amazon All Beauty 2023, 5-core", "All_Beauty"),
    _amazon_2023("amazon-2023-instruments", "Amazon Musical Instruments 2023, 5-core", "Musical_Instruments"),
    _amazon_2023("amazon-2023-games", "Amazon Video Games 2023, 5-core", "Video_Games"),
    _lightgcn("gowalla", "Gowalla check-ins (LightGCN split)", "gowalla", "https://snap.stanford.edu/data/loc-gowalla.html",
              (29_858, 40_981, 810_128)),
    _lightgcn("yelp2018", "Yelp 2018 (LightGCN split)", "yelp2018", "https://www.yelp.com/dataset",
              (31_668, 38_048, 1_237_259)),
    _lightgcn("amazon-book", "Amazon Book (LightGCN split)", "amazon-book",
              "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html", (52_643, 91_599, 2_380_730)),
    PublicData(
        "lastfm-hetrec-2k", "Last.FM, HetRec 2011", "https://grouplens.org/datasets/hetrec-2011/",
        "non-commercial research; cite HetRec 2011 and Last.fm",
        (Layout("user_artists.dat", "lastfm", counts(1892, 17_632, 92_834)),),
        (Download(f"{GROUPLENS}/hetrec2011/hetrec2011-lastfm-2k.zip"),),
    ),
    PublicData(
        "coat", "Coat Shopping", "https://www.cs.cornell.edu/~schnabts/mnar/", "research use; cite Schnabel et al. 2016",
        (Layout("train.ascii", "coat", counts(290, 300, 6960)),),
        (Download("https://www.cs.cornell.edu/~schnabts/mnar/coat.zip"),),
        has_split=True,
    ),
    PublicData(
        "goodbooks-10k", "goodbooks-10k", "https://github.com/zygmuntz/goodbooks-10k", "CC BY-SA 4.0",
        (Layout("ratings.csv", "csv", counts(53_424, 10_000, 5_976_479), "ratings.csv"),),
        (Download("https://github.com/zygmuntz/goodbooks-10k/releases/download/v1.0/goodbooks-10k.zip"),),
    ),
)  # fmt: skip
