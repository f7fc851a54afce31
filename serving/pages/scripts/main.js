// Wires the page together.

import * as comparison from "./comparison.js";
import * as conditions from "./conditions.js";
import * as curl from "./curl.js";
import * as keyboard from "./keyboard.js";
import * as pair from "./pair.js";
import * as recommendations from "./recommendations.js";
import * as search from "./search.js";
import { stop } from "./player.js";
import * as spaces from "./spaces.js";
import { onChange, state } from "./state.js";
import * as strategies from "./strategies.js";
import { fillIn } from "./texts.js";
import * as views from "./views.js";

fillIn(document);
onChange((now, before) => {
  spaces.update();
  search.update(now, before);
  strategies.update();
  conditions.update();
  recommendations.update(now, before);
  comparison.update();
  pair.update();
  views.update(before);
  if (now.track !== before.track) stop();
});
spaces.start();
search.start();
strategies.start();
conditions.start();
comparison.start();
curl.start();
keyboard.start();
recommendations.update(state(), null);
pair.update();
views.start();
