// Airflow frames these pages in a sandbox that may neither leave its frame nor open windows. A link out of the pages is
// therefore followed by the page around it, as if it stood there.
if (window.parent !== window) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-leave]");
    if (!link) return;
    event.preventDefault();
    const outside = window.parent.document.createElement("a");
    outside.href = link.href;
    outside.target = "_blank";
    outside.rel = "noopener";
    outside.click();
  });
}
