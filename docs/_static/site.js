// a picture opens by itself, to be enlarged on a telephone
for (const image of document.querySelectorAll(".content img")) {
    if (image.closest("a")) continue;
    const link = document.createElement("a");
    link.href = image.src;
    image.replaceWith(link);
    link.append(image);
}
