// Each asset's pictures switch modes together; buttons with data-look turn, cut and colour its view.
for (const section of document.querySelectorAll('section.asset')) {
  const data = section.querySelector('script.assets');
  const holder = section.querySelector('.view');
  const view = data ? trellisView(holder, JSON.parse(data.textContent)) : null;
  for (const button of section.querySelectorAll('.modes button')) {
    button.onclick = () => {
      for (const other of section.querySelectorAll('.modes button')) other.setAttribute('aria-pressed', String(other === button));
      for (const set of section.querySelectorAll('.cards')) set.hidden = set.dataset.mode !== button.value;
    };
  }
  for (const button of section.querySelectorAll('[data-look]')) {
    button.onclick = () => {
      if (!view) return;
      view.look(JSON.parse(button.dataset.look));
      const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
      holder.scrollIntoView({ block: 'nearest', behavior: still ? 'auto' : 'smooth' });
    };
  }
}
