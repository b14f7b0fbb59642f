"""Write the compiled files of all examples."""

from flows import compiled, examples

for example in examples():
    for path, text in compiled(example).items():
        path.write_text(text)
        print(path.name)
