"""How a report looks and what moves in it: colours, style sheet and script.

Each colour has a place in a light and in a dark table; print is light. The colours of surprisal go
down in lightness by equal steps (up, in the dark), so that their order is seen without their hue,
and underlines say the same in print and to those who see no colour. This room knows nothing of
what stands on the page.
"""

from __future__ import annotations

__all__ = ["DARK", "LEVELS", "LIGHT", "SCRIPT", "STYLE"]

LEVELS = (1.0, 2.5, 4.5, 7.0)  # bits at which the colours of surprisal begin, from the second on

LIGHT = {
    "paper": "#ffffff",
    "card": "#f4f3f0",
    "ink": "#1c1b1a",
    "soft": "#5a5752",
    "rule": "#d8d5cf",
    "link": "#0b5cad",
    "line1": "#0072b2",
    "line2": "#c04f00",
    "level1": "#faf3c9",
    "level2": "#f8dc90",
    "level3": "#faaf58",
    "level4": "#f07c4d",
    "low2": "#6dabdf",
    "low1": "#bddcf7",
    "high1": "#fdd7ac",
    "high2": "#ed9c55",
}
DARK = {
    "paper": "#15171a",
    "card": "#1f2226",
    "ink": "#ebe8e4",
    "soft": "#a9a49c",
    "rule": "#3b3f45",
    "link": "#7cb8f2",
    "line1": "#56b4e9",
    "line2": "#f0945a",
    "level1": "#332e12",
    "level2": "#513c09",
    "level3": "#794402",
    "level4": "#a74128",
    "low2": "#1f689d",
    "low1": "#1a3b55",
    "high1": "#493319",
    "high2": "#8c541f",
}


def _variables(colors: dict[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in colors.items())


STYLE = (
    f"""
:root{{color-scheme:light dark;{_variables(LIGHT)}}}
@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
"""
    + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:50rem;background:var(--paper);
color:var(--ink);font:1rem/1.55 system-ui,sans-serif;overflow-wrap:break-word}
h1,h2,h3{line-height:1.25;overflow-wrap:anywhere}
h1{font-size:1.7rem;margin:0 0 .3rem}
h2{font-size:1.3rem;margin:3rem 0 .6rem;padding-top:.8rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.6rem 0 .4rem}
p{margin:.5rem 0;max-width:42rem}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px}
code,pre,.text,.told{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
code,pre{font-size:.875rem}
pre{margin:.4rem 0;padding:.7rem .9rem;border-radius:.4rem;background:var(--card);
white-space:pre-wrap;overflow-wrap:anywhere}
.soft{color:var(--soft)}
.command span{display:inline-block;max-width:100%}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:1rem 0;padding:0;list-style:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;
margin:1.2rem 0}
.tiles div{padding:.6rem .8rem;border-radius:.4rem;background:var(--card)}
dt{color:var(--soft);font-size:.85rem;line-height:1.3}
dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:start;color:var(--soft);padding-bottom:.3rem;white-space:nowrap}
th,td{padding:.25rem 1.2rem .25rem 0;text-align:start;vertical-align:top;
border-bottom:1px solid var(--rule)}
th{font-weight:600}
.facts table,.bars table,.places table{width:100%}
.facts td{overflow-wrap:anywhere}
.facts th{font-weight:400;color:var(--soft);white-space:nowrap}
.places th,.places td{white-space:nowrap}
.places td:nth-child(2){width:60%;white-space:normal;overflow-wrap:anywhere}
.bars td:last-child{width:60%;padding-right:0}
.bars svg{display:block;width:100%;height:1.1rem}
.bars rect{fill:var(--line1)}
.bars .own rect{fill:var(--line2)}
.bars .own{font-weight:600}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--link);width:fit-content}
figure{margin:1.4rem 0;padding:0}
figcaption{font-weight:600}
.legend,.scale{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;font-size:.85rem;color:var(--soft)}
.key{display:inline-block;width:28px;height:10px}
.plot{display:block;width:calc(100% - 4.2rem);margin:.8rem .6rem 0 3.6rem;overflow:visible}
.plot svg{overflow:visible}
.plot text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule)}
.axis,.tick{stroke:var(--soft)}
.line1,.line2{fill:none;stroke:var(--line1);stroke-width:2;stroke-linejoin:round;
vector-effect:non-scaling-stroke}
.line2{stroke:var(--line2);stroke-dasharray:6 4}
.mark1{fill:var(--line1)}
.mark2{fill:var(--line2)}
.below{text-align:end;font-size:.85rem;color:var(--soft);padding-right:.6rem}
.text{margin:.6rem 0;padding:.8rem .9rem;border:1px solid var(--rule);border-radius:.4rem;
background:none;font-size:.95rem;line-height:1.85;white-space:pre-wrap;overflow-wrap:anywhere;
overflow:clip;tab-size:4}
.plain{font-size:.875rem;line-height:1.55;background:var(--card);border:0}
.s1,.s2,.s3,.s4,.low1,.low2,.high1,.high2{print-color-adjust:exact;
-webkit-print-color-adjust:exact;text-decoration-skip-ink:none;text-underline-offset:.3em}
.s1{background:var(--level1)}
.s2{background:var(--level2);text-decoration:underline dotted 1px}
.s3{background:var(--level3);text-decoration:underline 1px}
.s4{background:var(--level4);text-decoration:underline 3px}
.low1{background:var(--low1)}
.low2{background:var(--low2);text-decoration:underline dotted 2px}
.high1{background:var(--high1)}
.high2{background:var(--high2);text-decoration:underline 2px}
.n::before{content:"\\21b5" / "";opacity:.65}
.t::before{content:"\\2192" / "";opacity:.65}
.x{font-size:.8em;border:1px dotted var(--soft);border-radius:2px}
.scale span{padding:0 .4em;color:var(--ink)}
.here{outline:2px solid var(--ink);outline-offset:1px}
#text span{scroll-margin:4rem 0 13rem}
.look{position:sticky;bottom:0;padding:.5rem .9rem .7rem;border:1px solid var(--rule);
border-radius:.4rem;background:var(--card)}
.look label{display:block;font-size:.85rem;color:var(--soft)}
.look input{display:block;width:100%;margin:.2rem 0;accent-color:var(--link)}
.told{min-height:3.1em;font-size:.9rem;white-space:pre-wrap}
.told div{display:flex;flex-wrap:wrap;gap:0 1.4rem}
.told bdi:first-child{min-width:8em;font-weight:600}
[hidden]{display:none}
footer{margin-top:3rem;font-size:.85rem;color:var(--soft)}
@media (max-width:30rem){th,td{padding-right:.7rem}.bars td:last-child{width:45%}}
@media (forced-colors:active){.bars rect{fill:CanvasText}.line1,.line2{stroke:CanvasText}}
@media print{body{max-width:none;padding:0;font-size:10.5pt}nav,.look,details:not([open]){
display:none}h2{break-after:avoid;margin-top:1.6rem}figure,tr,.tiles div{break-inside:avoid}
.here{outline:none}.text{font-size:9pt}a{color:inherit;text-decoration:none}}
"""
)

# What the model expected at a place of the text: by pointer, by touch, or by the slider.
SCRIPT = """
"use strict";
const places = [...document.querySelectorAll("#text span")];
const slider = document.getElementById("place");
const told = document.getElementById("told");
let here = places[0];
function show(place) {
  here.classList.remove("here");
  here = places[place];
  here.classList.add("here");
  told.replaceChildren(...here.title.split("\\n\\n").map((lines) => {
    const group = document.createElement("div");
    group.append(...lines.split("\\n").map((line) => {
      const part = document.createElement("bdi");
      part.dir = "ltr";
      part.textContent = line;
      return part;
    }));
    return group;
  }));
  slider.value = place;
  slider.setAttribute("aria-valuetext", here.title);
}
function point(event) {
  const place = places.indexOf(event.target);
  if (place >= 0) show(place);
}
document.getElementById("text").addEventListener("click", point);
document.getElementById("text").addEventListener("pointerover", point);
slider.addEventListener("input", () => {
  show(slider.valueAsNumber);
  here.scrollIntoView({block: "nearest"});
});
document.getElementById("look").hidden = false;
show(Math.min(1, places.length - 1));
"""
