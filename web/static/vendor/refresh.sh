#!/bin/sh
# Fetch the vendored browser modules from npm again and write VENDOR.md.
# The only change to any file: lit's bare import specifiers become relative ones, because a strict
# CSP without inline scripts leaves no room for an import map.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent \
  lit@3.3.3 marked@18.2.1 dompurify@3.4.18 @highlightjs/cdn-assets@11.12.0 \
  @xterm/xterm@6.0.0 @xterm/addon-fit@0.11.0
m=node_modules
rm -rf "$here/lit" "$here/highlight" "$here/xterm" "$here/marked.js" "$here/purify.js"
mkdir -p "$here/lit/directives" "$here/highlight/languages" "$here/xterm"

relative() { # file depth-prefix
  sed -E -e "s#(from|import)\"@lit/reactive-element\"#\1\"$2reactive-element.js\"#g" \
      -e "s#(from|import)\"lit-html\"#\1\"$2lit-html.js\"#g" \
      -e "s#(from|import)\"lit-html/is-server.js\"#\1\"$2is-server.js\"#g" \
      -e "s#(from|import)\"lit-element/lit-element.js\"#\1\"$2lit-element.js\"#g" \
      -e '/^\/\/# sourceMappingURL=/d' "$1"
}
relative $m/lit/index.js ./ >"$here/lit/index.js"
relative $m/lit-element/lit-element.js ./ >"$here/lit/lit-element.js"
relative $m/@lit/reactive-element/reactive-element.js ./ >"$here/lit/reactive-element.js"
relative $m/@lit/reactive-element/css-tag.js ./ >"$here/lit/css-tag.js"
for name in lit-html is-server directive directive-helpers; do
  relative $m/lit-html/$name.js ./ >"$here/lit/$name.js"
done
for name in repeat live; do
  relative $m/lit-html/directives/$name.js ../ >"$here/lit/directives/$name.js"
done
cp $m/marked/lib/marked.esm.js "$here/marked.js"
cp $m/dompurify/dist/purify.es.mjs "$here/purify.js"
cp $m/@highlightjs/cdn-assets/es/core.min.js "$here/highlight/core.js"
for name in bash css diff go javascript json python rust sql typescript xml yaml; do
  cp $m/@highlightjs/cdn-assets/es/languages/$name.min.js "$here/highlight/languages/$name.js"
done
cp $m/lit/LICENSE "$here/lit/LICENSE"
cp $m/@highlightjs/cdn-assets/LICENSE "$here/highlight/LICENSE"
cp $m/@xterm/xterm/lib/xterm.mjs "$here/xterm/xterm.js"
cp $m/@xterm/xterm/css/xterm.css "$here/xterm/xterm.css"
cp $m/@xterm/addon-fit/lib/addon-fit.mjs "$here/xterm/addon-fit.js"
cp $m/@xterm/xterm/LICENSE "$here/xterm/LICENSE"

cd "$here"
{
  echo "# Vendored browser modules"
  echo
  echo "Made by \`refresh.sh\` from the npm registry; nothing is built. lit's import specifiers were made"
  echo "relative, every other file is byte for byte what the package holds."
  echo
  echo "| package | version | licence | source |"
  echo "|---|---|---|---|"
  echo "| lit (with lit-html, lit-element, @lit/reactive-element) | 3.3.3 | BSD-3-Clause | https://www.npmjs.com/package/lit/v/3.3.3 |"
  echo "| marked | 18.2.1 | MIT | https://www.npmjs.com/package/marked/v/18.2.1 |"
  echo "| DOMPurify | 3.4.18 | MPL-2.0 OR Apache-2.0 | https://www.npmjs.com/package/dompurify/v/3.4.18 |"
  echo "| highlight.js (\`@highlightjs/cdn-assets\`, core and languages) | 11.12.0 | BSD-3-Clause | https://www.npmjs.com/package/@highlightjs/cdn-assets/v/11.12.0 |"
  echo "| xterm.js (\`@xterm/xterm\`, loaded only with a terminal) | 6.0.0 | MIT | https://www.npmjs.com/package/@xterm/xterm/v/6.0.0 |"
  echo "| xterm.js's fit (\`@xterm/addon-fit\`) | 0.11.0 | MIT | https://www.npmjs.com/package/@xterm/addon-fit/v/0.11.0 |"
  echo
  echo "| file | bytes | sha256 |"
  echo "|---|---|---|"
  find . -name '*.js' -o -name '*.css' | LC_ALL=C sort | sed 's#^\./##' | while read -r file; do
    echo "| $file | $(wc -c <"$file" | tr -d ' ') | $(sha256sum "$file" | cut -d' ' -f1) |"
  done
} >VENDOR.md
