// Answers requests over HTTP: greets whoever is named in the path.
import { greeting } from "./greeting.js";

function answer(request) {
  const [, name, ...rest] = new URL(request.url).pathname.split("/");
  if (rest.length > 0) return new Response("There is nothing here.\n", { status: 404 });
  return new Response(`${greeting(decodeURIComponent(name) || "world")}\n`);
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
