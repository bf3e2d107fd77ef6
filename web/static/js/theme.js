// A classic script in the head, so that the page never shows in the wrong colours first.
(() => {
  try {
    const theme = localStorage.getItem("omakase:theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // storage is forbidden: the system's own colours
  }
})();
