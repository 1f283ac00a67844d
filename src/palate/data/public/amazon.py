"""Amazon reviews: the 5-core categories of 2014 and of 2023, and other editions that published studies use."""

from __future__ import annotations

from palate.data.public.entry import Counts, Download, Layout, PublicData, counts

TERMS = "research use; cite the authors of the collection; no redistribution"
PAGE_2014 = "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html"
PAGE_2018 = "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/"
PAGE_2023 = "https://amazon-reviews-2023.github.io/data_processing/5core.html"
FILES_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
FILES_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/benchmark/5core/rating_only"
NOTE_2014 = "the owner publishes no checksums"

#: Users, items and ratings of the 5-core categories of 2023, as the owner's page rounds them.
CATEGORIES_2023 = """
All_Beauty 253 356 2.5K
Arts_Crafts_and_Sewing 197.3K 90.0K 1.8M
Automotive 632.1K 267.3K 6.1M
Baby_Products 150.8K 36.0K 1.2M
Beauty_and_Personal_Care 729.6K 207.6K 6.6M
Books 776.4K 495.1K 9.5M
CDs_and_Vinyl 123.9K 89.4K 1.6M
Cell_Phones_and_Accessories 381.0K 111.5K 2.8M
Clothing_Shoes_and_Jewelry 2.5M 715.0K 23.1M
Electronics 1.6M 368.2K 15.5M
Gift_Cards 377 129 2.4K
Grocery_and_Gourmet_Food 404.8K 132.9K 3.9M
Health_and_Household 796.1K 184.3K 7.2M
Home_and_Kitchen 2.9M 763.6K 28.2M
Industrial_and_Scientific 51.0K 25.8K 412.9K
Kindle_Store 892.2K 466.6K 16.1M
Magazine_Subscriptions 30 21 176
Movies_and_TV 657.2K 197.9K 7.4M
Musical_Instruments 57.4K 24.6K 511.8K
Office_Products 223.3K 77.6K 1.8M
Patio_Lawn_and_Garden 416.6K 133.4K 3.4M
Pet_Supplies 594.8K 114.6K 5.3M
Software 146.4K 17.6K 1.3M
Sports_and_Outdoors 409.8K 156.2K 3.5M
Tools_and_Home_Improvement 842.0K 274.7K 7.9M
Toys_and_Games 432.3K 162.0K 3.9M
Video_Games 94.8K 25.6K 814.6K
"""


def _of_2014(name: str, file: str, expected: Counts, *others: Layout) -> PublicData:
    marker = f"reviews_{file}_5.json"
    note = NOTE_2014 if expected else f"{NOTE_2014} and no numbers of users and items"
    return PublicData(
        name,
        f"Amazon {file.replace('_', ' ')} 2014, 5-core",
        PAGE_2014,
        TERMS,
        (Layout(marker, "amazon", marker), *others),
        expected,
        (Download(f"{FILES_2014}/{marker}.gz"),),
        note=note,
    )


def _of_2023(line: str) -> PublicData:
    category, *published = line.split()
    expected = counts(*(int(n) if n.isdigit() else n for n in published))
    return PublicData(
        f"amazon-2023-{category.lower().replace('_', '-')}",
        f"Amazon {category.replace('_', ' ')} 2023, 5-core",
        PAGE_2023,
        TERMS,
        (Layout(f"{category}.csv", "csv", f"{category}.csv"),),
        expected,
        (Download(f"{FILES_2023}/{category}.csv.gz"),),
        note="the owner publishes rounded counts, and no checksums",
    )


SEQUENCES = Layout("sequences.txt", "sequences")

AMAZON_2014 = (
    _of_2014("amazon-beauty", "Beauty", counts(22_363, 12_101, 198_502), SEQUENCES),
    _of_2014("amazon-sports", "Sports_and_Outdoors", counts(35_598, 18_357, 296_337), SEQUENCES),
    _of_2014("amazon-toys", "Toys_and_Games", counts(19_412, 11_924, 167_597), SEQUENCES),
    _of_2014("amazon-video-games", "Video_Games", counts(24_303, 10_672, 231_780)),
    _of_2014("amazon-baby", "Baby", counts(19_445, 7_050, 160_792)),
    _of_2014("amazon-electronics", "Electronics", counts(192_403, 63_001, 1_689_188)),
    _of_2014("amazon-office-products", "Office_Products", {}),
    _of_2014("amazon-digital-music", "Digital_Music", {}),
    _of_2014("amazon-instruments", "Musical_Instruments", {}),
    _of_2014("amazon-clothing", "Clothing_Shoes_and_Jewelry", {}),
    _of_2014("amazon-movies", "Movies_and_TV", {}),
    _of_2014("amazon-books", "Books", {}),
    _of_2014(
        "amazon-grocery", "Grocery_and_Gourmet_Food", {"users": 14_681, "interactions": 151_254},
        Layout("train.csv", "folder", counts=counts(14_681, 8_687, 121_892)),
    ),
)  # fmt: skip
AMAZON_2023 = tuple(_of_2023(line) for line in CATEGORIES_2023.strip().splitlines())
OTHER_EDITIONS = (
    PublicData(
        "amazon-games", "Amazon Video Games with titles (LLMRank)", PAGE_2014, TERMS, (SEQUENCES,),
        counts(50_546, 16_859, 440_264), note="the last 50 events of a user at most; from the files of the LLMRank study",
    ),
    PublicData(
        "amazon-office", "Amazon Office Products 2018 with descriptions (MiniOneRec)", PAGE_2018, TERMS, (SEQUENCES,),
        counts(3_231, 3_317, 22_447), note="users active in the last fifth of the time; from the files of the MiniOneRec study",
    ),
    PublicData(
        "amazon-gift-cards", "Amazon Gift Cards 2018, 5-core, with reviews", PAGE_2018, TERMS,
        (Layout("reviews_5core.jsonl", "amazon"),), counts(458, 148, 2_972), note="fetch by the form on the owner's page",
    ),
)  # fmt: skip
AMAZON = (*AMAZON_2014, *AMAZON_2023, *OTHER_EDITIONS)
