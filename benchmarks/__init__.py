"""How fast is the engine, against one forward pass of the ViT and against the obvious procedure?"""
