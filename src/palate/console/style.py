"""The look of the console: one style sheet, by day and by night, from 360 pixels of width on."""

#: Written by us, without anything from outside; added to each page.
SHEET = """
:root { --line: #d5dbe5; --soft: #475569; --link: #1d4ed8; --card: #ffffff; --page: #f5f7fa; --ink: #0f172a; --mark: #fef3c7;
  --good: #166534; --bad: #b91c1c; --shade: #eef2f7; }
.body--dark { --line: #334155; --soft: #b6c2d4; --link: #93c5fd; --card: #162032; --page: #0b1220; --ink: #e8edf5;
  --mark: #4d3d0a; --good: #86efac; --bad: #fca5a5; --shade: #1e2a3f; }
body, body.body--dark { background: var(--page); color: var(--ink); }
.nicegui-content { padding: 0; gap: 0; align-items: stretch; width: 100%; }
body a { color: var(--link); }
.top { background: #14213d; color: #fff; display: flex; flex-wrap: wrap; align-items: center; gap: 4px 20px;
  padding: 8px 20px; }
.top .brand { font-weight: 700; font-size: 1.15rem; letter-spacing: .02em; }
.top nav { display: flex; flex-wrap: wrap; flex: 1 1 20rem; }
.top nav a { color: #dbe4f3; text-decoration: none; padding: 6px 10px; border-radius: 6px; font-size: .95rem; }
.top nav a:hover { background: #24365c; } .top nav a[aria-current=page] { background: #fff; color: #14213d;
  font-weight: 600; }
.top .who { display: flex; align-items: center; gap: 8px; font-size: .85rem; color: #dbe4f3; }
.top button, .plainbutton { font: inherit; color: inherit; background: transparent; border: 1px solid #7f8fb0;
  border-radius: 6px;
  padding: 4px 10px; cursor: pointer; }
:focus-visible { outline: 3px solid #f59e0b; outline-offset: 2px; }
.content { width: 100%; max-width: 1240px; margin: 0 auto; padding: 20px; display: flex; flex-direction: column; gap: 18px;
  min-width: 0; box-sizing: border-box; }
h1 { font-size: 1.6rem; line-height: 1.25; font-weight: 700; margin: 0; }
h2 { font-size: 1.15rem; line-height: 1.3; font-weight: 650; margin: 0; }
h3 { font-size: 1rem; line-height: 1.3; font-weight: 650; margin: 0; }
p { margin: 0; max-width: 80ch; text-wrap: pretty; overflow-wrap: anywhere; } .alert p { max-width: none; }
.strong { font-weight: 650; }
.soft { color: var(--soft); } .small { font-size: .875rem; }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; display: flex;
  flex-direction: column; gap: 12px; min-width: 0; align-items: stretch; }
.line { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-end; } .middle { align-items: center; }
.field { min-width: 170px; max-width: 640px; } .line > .field { flex: 0 1 220px; } .wide { width: 100%; max-width: 640px; }
.line > .wide { flex: 1 1 300px; max-width: none; }
.stack:empty { display: none !important; }
.stack { display: flex; flex-direction: column; gap: 14px; min-width: 0; }
.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px; align-items: start; }
.aside { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 2fr); gap: 18px; align-items: start; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; margin: 0; }
.tiles > div { background: var(--shade); border-radius: 8px; padding: 10px 12px; min-width: 0; }
.tiles > .long { grid-column: span 2; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.2rem; font-weight: 650; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; max-width: 100%; }
ul.words { margin: 0; padding-left: 1.2rem; max-width: 80ch; } ul.words li { margin: 2px 0; }
.fields { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 12px; align-items: start; }
.fields > .field { max-width: none; min-width: 0; } .fields > .wide { grid-column: 1 / -1; max-width: none; }
fieldset { border: 0; margin: 0; padding: 0; min-width: 0; display: flex; flex-direction: column; gap: 8px; }
legend { font-weight: 650; padding: 0 0 6px; }
.choice { display: flex; gap: 10px; align-items: flex-start; cursor: pointer; max-width: 80ch; }
.choice input { width: 18px; height: 18px; margin: 2px 0 0; flex: none; accent-color: var(--link); }
.choice .strong { display: block; } [role=alert]:empty { display: none; }
.q-field__bottom { color: var(--soft) !important; font-size: .75rem; line-height: 1.3; padding: 4px 12px 0; min-height: 0; }
.q-field__messages { line-height: 1.3; } .q-field--with-bottom { padding-bottom: 0; }
.q-field__bottom--animated { position: static; transform: none; }
.q-transition--field-message-leave-active { display: none; }
.q-transition--field-message-enter-active { transition: none; opacity: 1 !important; transform: none !important; }
.q-field--error .q-field__bottom { color: var(--bad) !important; }
.q-checkbox, .q-toggle { margin-left: -10px; }
.filing { display: flex; flex-direction: column; gap: 6px; align-items: flex-start; } .filing label { font-size: .875rem;
  color: var(--soft); }
.panel.inner { background: var(--shade); gap: 8px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 18px; align-items: start; }
table.figures { border-collapse: collapse; width: 100%; font-size: .925rem; }
table.figures.narrow { width: auto; min-width: min(100%, 26rem); }
table.figures th { white-space: nowrap; } table.figures tbody tr:last-child > td { border-bottom: 0; }
table.figures caption { text-align: left; color: var(--soft); padding-bottom: 6px; font-size: .875rem; }
table.figures th { text-align: left; font-weight: 650; border-bottom: 2px solid var(--line); padding: 6px 14px 6px 0; }
table.figures td { border-bottom: 1px solid var(--line); padding: 6px 14px 6px 0; vertical-align: middle;
  overflow-wrap: break-word; min-width: 4rem; max-width: 26rem; }
table.figures .right { text-align: right; padding-right: 20px; padding-left: 14px;
  font-variant-numeric: tabular-nums; white-space: nowrap;
  overflow-wrap: normal; }
table.figures .long { min-width: 12rem; }
ol.offers, ul.plain { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column; }
.offers > li, ul.plain > li { display: flex; gap: 12px; padding: 9px 0; border-bottom: 1px solid var(--line); min-width: 0; }
.offers > li:last-child, ul.plain > li:last-child { border-bottom: 0; }
.offers .rank { color: var(--soft); width: 1.6rem; flex: none; text-align: right; font-variant-numeric: tabular-nums; }
.offers .body, ul.plain .body { min-width: 0; flex: 1; overflow-wrap: anywhere; }
.offers .act { display: flex; flex-wrap: wrap; gap: 4px; margin-top: 4px; }
.thumb { width: 44px; height: 44px; object-fit: cover; border-radius: 6px; flex: none; background: var(--shade); }
.badge { display: inline-block; font-size: .75rem; font-weight: 650; padding: 1px 7px; border-radius: 99px;
  background: var(--mark);
  color: var(--ink); margin-left: 6px; }
.badge.quiet { background: var(--shade); } td > .badge { margin-left: 0; }
.badge.yes { background: #bbf7d0; color: #14532d; } .badge.no { background: #fecaca; color: #7f1d1d; }
.body--dark .badge.yes { background: #14532d; color: #dcfce7; } .body--dark .badge.no { background: #7f1d1d; color: #fee2e2; }
.good { color: var(--good); } .bad { color: var(--bad); }
.alert { border-left: 5px solid #d97706; background: var(--mark); padding: 8px 12px; border-radius: 6px;
  overflow-wrap: anywhere; }
.alert.fault { border-left-color: #dc2626; } .alert.fine { border-left-color: #16a34a; background: var(--shade); }
.alert p { white-space: pre-line; }
.claim { border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.claim[open] > summary { margin-bottom: 10px; }
.claim > summary > .badge { margin-right: 8px; } .claim > p { margin-bottom: 10px; } td > .badge + .soft { margin-left: 8px; }
details > summary { cursor: pointer; color: var(--link); } .chart { width: 100%; height: 280px; }
.told { white-space: pre-line; max-width: min(560px, 94vw); } .told .q-notification__message { white-space: pre-line; }
.login { max-width: 460px; margin: 8vh auto 0; } .login .plainbutton { background: #1d4ed8; color: #fff; border: 0;
  padding: 10px; font-weight: 600; } .login label { font-weight: 600; }
.login input { font: inherit; padding: 9px; border: 1px solid var(--soft); border-radius: 6px; background: var(--card);
  color: var(--ink); width: 100%; box-sizing: border-box; }
header.top { padding: 8px 20px; gap: 4px 20px; } .q-btn { text-transform: none; }
.body--dark .text-primary { --q-primary: #93c5fd; } .body--dark .text-negative { --q-negative: #fca5a5; }
.smallbutton.q-btn { font-size: .8rem; padding: 2px 8px; min-height: 28px; }
.q-field__label { color: var(--soft) !important; } .q-field__native, .q-field__input { color: var(--ink) !important; }
.q-dialog .q-card { background: var(--card); color: var(--ink); max-width: min(560px, 92vw); }
.file { font: inherit; max-width: 100%; } .away { display: none !important; }
.file::file-selector-button { font: inherit; background: #1d4ed8; color: #fff; border: 0; border-radius: 4px;
  padding: 7px 14px;
  margin-right: 12px; cursor: pointer; }
@media (max-width: 860px) { .two, .aside { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 520px) { .content { padding: 12px; gap: 12px; } .panel { padding: 12px; } .top { padding: 8px 12px; }
  .line > .field, .line > .wide { flex: 1 1 100%; } .field { max-width: none; } .fields { grid-template-columns: 1fr; }
  h1 { font-size: 1.35rem; } .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 640px) {
  .top .who { order: 1; margin-left: auto; } .top .brand { order: 0; } .top nav { order: 2; flex-basis: 100%; margin: 0 -6px; }
  .top nav a { padding: 5px 8px; font-size: .9rem; }
  table.stacked, .stacked caption, .stacked tbody, .stacked tr { display: block; width: 100%; }
  .stacked thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  .stacked tbody tr { border: 1px solid var(--line); border-radius: 8px; padding: 4px 12px; margin-bottom: 10px;
    box-sizing: border-box; }
  table.figures.stacked td, table.figures.stacked td.right { display: flex; justify-content: space-between; gap: 16px;
    align-items: baseline; text-align: right; padding: 6px 0; min-width: 0; max-width: none; white-space: normal;
    overflow-wrap: anywhere; border: 0; }
  table.figures.stacked td:first-child { font-weight: 650; text-align: left; border-bottom: 1px solid var(--line); }
  table.figures.stacked td:empty { display: none; }
  .stacked td::before { content: attr(data-head); color: var(--soft); font-weight: 400; text-align: left; flex: none;
    max-width: 50%; }
  .stacked td:first-child::before { content: none; }
}
"""
