"""Rows of the catalogue: the 61 papers, in the order of the list.

A row says what is known before anything is built: the verb, the kind of method, the needs, the reference, and the name of the
claim that will test it. A paper's row becomes ``works`` when its file passes the conformance suite of its verb, and then its
claim must stand in ``claims/``.
"""

from __future__ import annotations

from palate.catalog.system import Need, System, Verb


def _paper(number: int, name: str, title: str, verb: Verb, family: str, needs: str, citation: str) -> System:
    """Return the row of a planned system; ``needs`` lists what it must be given, separated by commas."""
    wanted: tuple[Need, ...] = tuple(n.strip() for n in needs.split(","))  # type: ignore[misc]
    return System(
        name, title, verb, family,
        paper=number, citation=citation, needs=wanted, abilities=(), claim=name, status="planned",
    )  # fmt: skip


PAPERS: tuple[System, ...] = (
    _paper(1, "polarization_hgnn", "HGNN-Polarization", "understand", "mixed graph", "interactions, text, images, torch",
        "Lyu and Luo, Understanding Political Polarization via Jointly Modeling Users, Connections and Multimodal Contents on "
        "Heterogeneous Graphs, ACM Multimedia 2022, arXiv 2201.05946"),
    System("rlmrec", "RLMRec", "recommend", "graph with text", "palate.recommend.rlmrec:RLMRec", paper=2,
        citation="Ren et al., Representation Learning with Large Language Models for Recommendation, WWW 2024, "
        "arXiv 2310.15950", needs=("interactions", "text", "torch"),
        abilities=("vectors", "unseen users", "new items", "explains", "similar"), claim="rlmrec",
        quick={"dim": 8, "epochs": 2, "batch_size": 64, "text_dim": 8}),
    System("social_rec", "SocialRS", "recommend", "social graph", "palate.recommend.social_rec:SocialRec", paper=3,
        citation="Sharma et al., A Survey of Graph Neural Networks for Social Recommender Systems, ACM Computing Surveys 2024, "
        "arXiv 2212.04481", needs=("interactions", "social", "torch"),
        abilities=("vectors", "unseen users", "ties", "explains", "similar"), faithfulness="in the style of",
        claim="social_rec", quick={"dim": 8, "epochs": 3, "batch_size": 64}),
    _paper(4, "ulmrec", "ULMRec", "recommend", "language model reranking", "interactions, times, text, language model, torch",
        "ULMRec: User-centric Large Language Model for Sequential Recommendation, 2024, arXiv 2412.05543"),
    _paper(5, "crs_framework", "CRS Framework", "converse", "framework", "interactions, dialogues",
        "Gao, Lei, He, de Rijke and Chua, Advances and Challenges in Conversational Recommender Systems: A Survey, "
        "AI Open 2021, arXiv 2101.09459"),
    System("uditsr", "UDITSR", "recommend", "search and recommendation", "palate.recommend.uditsr:UDITSR", paper=6,
        citation="Unified Dual-Intent Translation for Joint Modeling of Search and Recommendation, KDD 2024, arXiv 2407.00912",
        needs=("interactions", "searches", "torch"), abilities=("unseen users", "words", "explains", "similar"), claim="uditsr",
        quick={"dim": 8, "epochs": 2, "batch_size": 64, "require_searches": False}),
    System("mercatran", "Mercatran", "recommend", "sequential with text", "palate.recommend.mercatran:Mercatran", paper=7,
        citation="MerRec: A Large-scale Multipurpose Mercari Dataset for Consumer-to-Consumer Recommendation Systems, "
        "KDD 2025, arXiv 2402.14230", needs=("interactions", "times", "text", "torch"),
        abilities=("vectors", "unseen users", "new items", "explains", "similar"), faithfulness="in the style of",
        claim="mercatran",
        quick={"dim": 16, "heads": 2, "blocks": 1, "hidden": 32, "epochs": 2, "batch_size": 64, "tokens": "words",
               "n_tokens": 512, "require_text": False}),
    _paper(8, "ilm", "ILM", "converse", "items inside a language model", "interactions, text, language model, torch",
        "Item-Language Model for Conversational Recommendation, 2024, arXiv 2406.02844"),
    _paper(9, "scpr", "SCPR", "converse", "path reasoning", "interactions, graph, social, torch",
        "Interactive Path Reasoning on Graph for Conversational Recommendation, KDD 2020"),
    System("slate_thompson", "SlateTS", "explore", "Bayesian slates", "palate.explore.slate_thompson:SlateThompson", paper=10,
        citation="Eide, Leslie and Frigessi, Dynamic Slate Recommendation with Gated Recurrent Units and Thompson Sampling, "
        "Data Mining and Knowledge Discovery 2022, arXiv 2104.15046", needs=("interactions", "torch"),
        abilities=("unseen users", "new items", "propensities"), claim="slate_thompson",
        quick={"dim": 4, "epochs": 4, "batch_size": 64, "draws": 16}),
    _paper(11, "ada_retrieval", "Ada-Retrieval", "recommend", "sequential", "interactions, times, torch",
        "Ada-Retrieval: An Adaptive Multi-Round Retrieval Paradigm for Sequential Recommendations, AAAI 2024"),
    _paper(12, "toolrec", "ToolRec", "recommend", "language model with tools", "interactions, text, language model",
        "Let Me Do It For You: Towards LLM Empowered Recommendation via Tool Learning, SIGIR 2024"),
    System("llmrec", "LLMRec", "recommend", "graph with text", "palate.recommend.llmrec:LLMRec", paper=13,
        citation="Wei et al., LLMRec: Large Language Models with Graph Augmentation for Recommendation, WSDM 2024, "
        "arXiv 2311.00423", needs=("interactions", "text", "torch"),
        abilities=("vectors", "unseen users", "new items", "explains", "similar"), faithfulness="in the style of",
        claim="llmrec",
        quick={"dim": 8, "epochs": 2, "batch_size": 64, "text_dim": 8, "base": "item_knn", "require_text": False}),
    System("diffkg", "DiffKG", "recommend", "knowledge graph", "palate.recommend.diffkg:DiffKG", paper=14,
        citation="Jiang et al., DiffKG: Knowledge Graph Diffusion Model for Recommendation, WSDM 2024, arXiv 2312.16890",
        needs=("interactions", "graph", "torch"),
        abilities=("vectors", "unseen users", "new items", "explains", "similar"), claim="diffkg",
        quick={"dim": 8, "epochs": 2, "batch_size": 64, "hidden": 8, "require_graph": False}),
    System("aw_moe", "AW-MoE", "rank", "mixture of experts", "palate.rank.aw_moe:AWMoE", paper=15,
        citation="Attention Weighted Mixture of Experts with Contrastive Learning for Personalized Ranking in E-commerce, "
        "ICDE 2023, arXiv 2306.05011", needs=("interactions", "torch"), abilities=("unseen users", "explains"),
        faithfulness="in the style of", claim="aw_moe",
        quick={"hidden": (8,), "source": 8}),
    _paper(16, "ear", "EAR", "converse", "ask or recommend", "interactions, torch",
        "Estimation-Action-Reflection: Towards Deep Interaction Between Conversational and Recommender Systems, WSDM 2020, "
        "arXiv 2002.09102"),
    _paper(17, "fact_crs", "FacT-CRS", "converse", "decision trees", "interactions",
        "Haque and Wang, Rethinking Conversational Recommendations: Is Decision Tree All You Need?, CIKM 2022, "
        "arXiv 2208.14614"),
    _paper(18, "sesa", "SESA", "rank", "named dimensions", "interactions, text, torch",
        "Bogdanova and Yazdani, SESA: Supervised Explicit Semantic Analysis, 2017, arXiv 1708.03246"),
    System("autoint", "AutoInt", "rank", "feature interaction", "palate.rank.autoint:AutoInt", paper=19,
        citation="Song et al., AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks, CIKM 2019, "
        "arXiv 1810.11921", needs=("interactions", "torch"), abilities=("unseen users", "explains"), claim="autoint",
        quick={"units": 8, "layers": 2}),
    System("pld", "PLD", "recommend", "denoising", "palate.recommend.pld:PLD", paper=20,
        citation="Zhang et al., Personalized Denoising Implicit Feedback for Robust Recommender System, WWW 2025, "
        "arXiv 2502.00348", needs=("interactions", "torch"), abilities=("vectors", "unseen users", "explains", "similar"),
        claim="pld", quick={"dim": 8, "epochs": 4, "batch_size": 64, "warmup": 1}),
    _paper(21, "unimp", "UniMP", "recommend", "multimodal", "interactions, times, text, images, language model, torch",
        "Towards Unified Multi-Modal Personalization: Large Vision-Language Models for Generative Recommendation and Beyond, "
        "ICLR 2024"),
    _paper(22, "mender", "Mender", "recommend", "generative retrieval", "interactions, times, text, language model, torch",
        "Preference Discerning with LLM-Enhanced Generative Retrieval, TMLR 2025, arXiv 2412.08604"),
    _paper(23, "hcn", "HCN", "recommend", "multi-interest", "interactions, times, torch",
        "Hierarchical Multi-Interest Co-Network For Coarse-Grained Ranking, 2022, arXiv 2210.10547"),
    _paper(24, "persrv", "PerSRV", "rank", "sticker retrieval", "interactions, images, searches, torch",
        "PerSRV: Personalized Sticker Retrieval with Vision-Language Model, WWW 2025"),
    _paper(25, "llm_roles", "LLM Roles", "write", "framework", "interactions, text, language model",
        "When Large Language Models Meet Personalization: Perspectives of Challenges and Opportunities, World Wide Web 2024"),
    _paper(26, "lc_rec", "LC-Rec", "recommend", "generative retrieval", "interactions, times, text, language model, torch",
        "Adapting Large Language Models by Integrating Collaborative Semantics for Recommendation, ICDE 2024"),
    System("ssl_two_tower", "SSL Two-Tower", "recommend", "two towers", "palate.recommend.ssl_two_tower:SSLTwoTower", paper=27,
        citation="Yao et al., Self-supervised Learning for Large-scale Item Recommendations, CIKM 2021, arXiv 2007.12865",
        needs=("interactions", "text", "torch"), abilities=("vectors", "unseen users", "new items", "explains", "similar"),
        claim="ssl_two_tower",
        quick={"dim": 8, "field_dim": 8, "history_dim": 8, "hidden": (16,), "epochs": 2, "batch_size": 64}),
    _paper(28, "all_of_me", "All of Me", "understand", "attributes from sets", "interactions, torch",
        "Tricomi, Pajola, Pasa and Conti, \"All of Me\": Mining Users' Attributes from their Public Spotify Playlists, "
        "Companion of the ACM Web Conference 2024, arXiv 2401.14296"),
    _paper(29, "item_ids", "Item IDs", "recommend", "generative retrieval", "interactions, times, text, torch",
        "How to Index Item IDs for Recommendation Foundation Models, SIGIR-AP 2023"),
    _paper(30, "sum_ret", "SumRet", "write", "summary and retrieval", "interactions, text, language model",
        "Integrating Summarization and Retrieval for Enhanced Personalization via Large Language Models, 2023"),
    _paper(31, "mese", "MESE", "converse", "items inside a language model", "dialogues, text, language model, torch",
        "Improving Conversational Recommendation Systems' Quality with Context-Aware Item Meta Information, Findings of NAACL "
        "2022"),
    _paper(32, "kuaipedia", "Kuaipedia", "understand", "entity linking", "text, graph, torch",
        "Kuaipedia: a Large-scale Multi-modal Short-video Encyclopedia, 2022"),
    _paper(33, "llm_rating", "LLM Rating", "rank", "rating prediction", "interactions, times, text, language model",
        "Do LLMs Understand User Preferences? Evaluating LLMs On User Rating Prediction, 2023, arXiv 2305.06474"),
    _paper(34, "pmc_patients", "PMC-Patients", "understand", "retrieval of people alike", "text, graph, torch",
        "PMC-Patients: A Large-scale Dataset of Patient Notes and Relations Extracted from Case Reports in PubMed Central, "
        "Scientific Data 2023"),
    _paper(35, "hllm", "HLLM", "recommend", "sequential with text", "interactions, times, text, language model, torch",
        "HLLM: Enhancing Sequential Recommendations via Hierarchical Large Language Models for Item and User Modeling, 2024, "
        "arXiv 2409.12740"),
    _paper(36, "recformer", "Recformer", "recommend", "sequential with text", "interactions, times, text, torch",
        "Text Is All You Need: Learning Language Representations for Sequential Recommendation, KDD 2023"),
    _paper(37, "persona_plug", "Persona-Plug", "write", "user vector for a language model", "text, language model, torch",
        "LLMs + Persona-Plug = Personalized LLMs, ACL 2025"),
    _paper(38, "llm_recsys", "LLM-RecSys", "recommend", "language model", "interactions, times, text, language model",
        "Recommender Systems in the Era of Large Language Models (LLMs), IEEE TKDE 2024"),
    System("optinter", "OptInter", "rank", "feature interaction", "palate.rank.optinter:OptInter", paper=39,
        citation="Lyu et al., Memorize, Factorize, or be Naive: Learning Optimal Feature Interaction Methods for CTR "
        "Prediction, ICDE 2022, arXiv 2108.01265", needs=("interactions", "torch"), abilities=("unseen users", "explains"),
        claim="optinter",
        quick={"hidden": (16,), "pair_dim": 4}),
    System("rel_mf", "Rel-MF", "recommend", "debiasing", "palate.recommend.rel_mf:RelMF", paper=40,
        citation="Saito et al., Unbiased Recommender Learning from Missing-Not-At-Random Implicit Feedback, WSDM 2020, "
        "arXiv 1909.03601", needs=("interactions", "torch"), abilities=("vectors", "unseen users", "explains", "similar"),
        claim="rel_mf", quick={"dim": 8, "epochs": 3, "batch_size": 16}),
    _paper(41, "basket_recipes", "Basket Recipes", "recommend", "baskets", "interactions",
        "Nath and Sen, An Algorithm for Recommending Groceries Based on an Item Ranking Method, 2021"),
    System("easyrec", "EasyRec", "recommend", "text encoder", "palate.recommend.easyrec:EasyRec", paper=42,
        citation="Ren and Huang, EasyRec: Simple yet Effective Language Models for Recommendation, EMNLP 2025, "
        "arXiv 2408.08821", needs=("interactions", "text", "torch"),
        abilities=("vectors", "unseen users", "new items", "words", "explains", "similar"), claim="easyrec",
        quick={"buckets": 512, "width": 8, "hidden": (8,), "dim": 8, "epochs": 2, "batch_size": 16, "require_text": False}),
    _paper(43, "qilin", "Qilin", "rank", "search and recommendation", "interactions, text, images, searches, torch",
        "Qilin: A Multimodal Information Retrieval Dataset with APP-level User Sessions, SIGIR 2025, arXiv 2503.00501"),
    _paper(44, "sy_se_pqa", "Sy-SE-PQA", "data", "synthetic answers", "text, language model",
        "Synthetic Data Generation with Large Language Models for Personalized Community Question Answering, WI-IAT 2024"),
    _paper(45, "musechat", "MuseChat", "converse", "music for videos", "dialogues, text, images, language model, torch",
        "MuseChat: A Conversational Music Recommendation System for Videos, CVPR 2024, arXiv 2310.06282"),
    _paper(46, "evaluation_survey", "Evaluation Survey", "evaluate", "metrics", "interactions",
        "Jadon and Patil, A Comprehensive Survey of Evaluation Techniques for Recommendation Systems, 2024, arXiv 2312.16015"),
    _paper(47, "u_sticker", "U-Sticker", "recommend", "stickers", "interactions, times, text, images, dialogues, torch",
        "A 106K Multi-Topic Multilingual Conversational User Dataset with Emoticons, 2025"),
    _paper(48, "recagent", "RecAgent", "simulate", "simulated people", "interactions, text, social, language model",
        "RecAgent: A Novel Simulation Paradigm for Recommender Systems, 2023, arXiv 2306.02552"),
    _paper(49, "m2trec", "M2TRec", "recommend", "sessions with text", "interactions, times, text, torch",
        "M2TRec: Metadata-aware Multi-task Transformer for Large-scale and Cold-start free Session-based Recommendations, "
        "RecSys 2022, arXiv 2209.11824"),
    _paper(50, "bot_play", "Bot Play", "converse", "critiques", "interactions, text, torch",
        "Self-Supervised Bot Play for Conversational Recommendation with Justifications, 2021, arXiv 2112.05197"),
    _paper(51, "p5", "P5", "recommend", "language model", "interactions, times, text, language model, torch",
        "Recommendation as Language Processing (RLP): A Unified Pretrain, Personalized Prompt & Predict Paradigm, RecSys 2022"),
    _paper(52, "recllm", "RecLLM", "converse", "language model", "interactions, text, dialogues, language model",
        "Leveraging Large Language Models in Conversational Recommender Systems, 2023, arXiv 2305.07961"),
    _paper(53, "k_lamp", "K-LaMP", "write", "query suggestion", "text, graph, searches, language model",
        "Knowledge-Augmented Large Language Models for Personalized Contextual Query Suggestion, WWW 2024"),
    _paper(54, "unicrs", "UniCRS", "converse", "prompts with knowledge", "dialogues, text, graph, language model, torch",
        "Towards Unified Conversational Recommender Systems via Knowledge-Enhanced Prompt Learning, KDD 2022"),
    _paper(55, "relation_booth", "RelationBooth", "write", "personal pictures", "text, images, torch",
        "RelationBooth: Towards Relation-Aware Customized Object Generation, CVPR 2025"),
    _paper(56, "conv_sim", "ConvSim", "simulate", "simulated answers", "text, searches, dialogues, language model",
        "Exploiting Simulated User Feedback for Conversational Search: Ranking, Rewriting, and Beyond, SIGIR 2023"),
    _paper(57, "debate_trial", "Debate Trial", "evaluate", "controlled trial", "dialogues, language model",
        "On the Conversational Persuasiveness of Large Language Models: A Randomized Controlled Trial, Nature Human Behaviour "
        "2025, arXiv 2403.14380"),
    _paper(58, "mqsa_ted", "MQSA-TED", "recommend", "sequential", "interactions, times, torch",
        "Collaboration and Transition: Distilling Item Transitions into Multi-Query Self-Attention for Sequential "
        "Recommendation, WSDM 2024"),
    System("cascading_rl", "CascadingVI", "explore", "cascading lists", "palate.explore.cascading_rl:CascadingVI", paper=59,
        citation="Du, Srikant and Chen, Cascading Reinforcement Learning, ICLR 2024, arXiv 2401.08961",
        abilities=("unseen users", "propensities", "incremental"), faithfulness="in the style of", claim="cascading_rl"),
    System("two_tower_hgnn", "2T-HGNN", "recommend", "graph and two towers", "palate.recommend.two_tower_hgnn:TwoTowerHGNN",
        paper=60, citation="De Nadai et al., Personalized Audiobook Recommendations at Spotify Through Graph Neural Networks, "
        "WWW Companion 2024, arXiv 2403.05185", needs=("interactions", "text", "torch"),
        abilities=("vectors", "unseen users", "new items", "explains", "similar"), faithfulness="in the style of",
        claim="two_tower_hgnn",
        quick={"dim": 8, "field_dim": 8, "history_dim": 8, "hidden": (16,), "epochs": 2, "batch_size": 64, "graph_dim": 8,
               "text_dim": 8, "graph_epochs": 2, "min_links": 200, "require_text": False}),
    System("cml_theatrical", "CML-Theatrical", "recommend", "metric learning", "palate.recommend.cml_theatrical:CMLTheatrical",
        paper=61, citation="Campo, Espinoza, Rieger and Taliyan, Collaborative Metric Learning Recommendation System: "
        "Application to Theatrical Movie Releases, 2018, arXiv 1803.00202", needs=("interactions", "text", "torch"),
        abilities=("vectors", "unseen users", "new items", "explains", "similar"), faithfulness="in the style of",
        claim="cml_theatrical",
        quick={"dim": 8, "hidden": 8, "text_dim": 8, "epochs": 2, "batch_size": 64, "n_negatives": 5, "require_text": False}),
)  # fmt: skip
