// Answers requests over HTTP: greets whoever is named in the path, sends back what is
// posted, and returns a query as JSON.
import { getEnvironment } from "wasi:cli/environment@0.2.3";

function greet(name) {
  const { GREETING = "" } = Object.fromEntries(getEnvironment());
  return new Response(`${GREETING}, ${name}!\n`);
}

function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  switch (request.method) {
    case "GET":
    case "HEAD":
      if (pathname === "/") return greet("world");
      if (pathname.startsWith("/hello/")) return greet(pathname.slice("/hello/".length));
      if (pathname === "/json") return Response.json(Object.fromEntries(searchParams));
      break;
    case "POST":
      // A stream: each piece is sent back as it comes.
      if (pathname === "/echo") {
        const headers = { "content-type": "application/octet-stream" };
        return new Response(request.body, { headers });
      }
  }
  return new Response("there is nothing here\n", { status: 404 });
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
